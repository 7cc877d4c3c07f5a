"""Make the corpus of broken inputs: `uv run python tests/data/broken/make.py`.

Each file has beside it `<name>.expected`: one line for each text that the error must contain.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
HEADER = "id,months,died,c_month,m_month,age\n"
GOOD = [
    "p1,10,1,2,5,40-",
    "p2,20,0,3,,40+",
    "p3,8,1,2,,40-",
    "p4,15,1,4,9,40+",
    "p5,30,0,3,12,40-",
    "p6,6,1,,,40+",
]


def rows(*changed: str, header: str = HEADER) -> str:
    """The good table with rows replaced, each given as the whole line."""
    by_id = {line.split(",")[0]: line for line in GOOD}
    for line in changed:
        by_id[line.split(",")[0]] = line
    return header + "\n".join(by_id.values()) + "\n"


TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    # The file itself.
    "empty_file.csv": ("", ("it is empty",)),
    "header_only.csv": (HEADER, ("no rows",)),
    "truncated_line.csv": (rows()[:-7], ("too few or too many cells", "cut short")),
    "extra_cell.csv": (rows("p2,20,0,3,,40+,x"), ("too few or too many cells",)),
    "decimal_comma_unquoted.csv": (rows("p2,20,5,0,3,,40+"), ("too few or too many cells",)),
    "open_quote.csv": (rows('p2,"20,0,3,,40+'), ("file:",)),
    "semicolons.csv": (rows().replace(",", ";"), ("no such column",)),
    "tabs.csv": (rows().replace(",", "\t"), ("no such column",)),
    "no_header.csv": (rows(header=""), ("no such column",)),
    "duplicate_header.csv": (
        rows(header="id,months,months,c_month,m_month,age\n"),
        ("months: more than one column has this name",),
    ),
    "misspelt_header.csv": (
        rows(header="id,month,died,c_month,m_month,age\n"),
        ("months: no such column", "Nearest: month"),
    ),
    "header_in_capitals.csv": (rows(header=HEADER.upper()), ("no such column", "MONTHS")),
    "header_with_space.csv": (
        rows(header="id, months,died,c_month,m_month,age\n"),
        ("months: no such column",),
    ),
    "column_missing.csv": (
        rows(header="id,months,died,c_month,maint,age\n"),
        ("m_month: no such column",),
    ),
    "html.csv": ("<html><body>Log in first</body></html>\n", ("no such column",)),
    # Ids.
    "id_missing.csv": (rows() + ",9,1,2,,40-\n", ("id: missing ids in rows 7",)),
    "id_twice.csv": (rows() + "p1,9,1,2,,40-\n", ("id: ids that stand in more than one row", "p1")),
    "id_twice_by_spaces.csv": (rows() + " p1 ,9,1,2,,40-\n", ("more than one row", "p1")),
    # Times.
    "time_missing.csv": (rows("p2,,0,3,,40+"), ("months: missing times", "p2")),
    "time_negative.csv": (rows("p2,-20,0,,,40+"), ("months: negative or infinite times", "p2")),
    "time_zero.csv": (rows("p2,0,0,,,40+"), ("months: times of 0", "zero_times")),
    "time_infinite.csv": (rows("p2,inf,0,,,40+"), ("months: values that are not numbers", "inf")),
    "time_1e999.csv": (rows("p2,1e999,0,3,,40+"), ("months: negative or infinite times", "p2")),
    "time_huge_integer.csv": (
        rows("p2,99999999999999999999999999,0,3,,40+"),
        ("months: times longer than a life", "p2"),
    ),
    "time_decimal_comma.csv": (rows('p2,"12,5",0,3,,40+'), ("not numbers ('12,5')", "12.5")),
    "time_thousands.csv": (rows('p2,"1,200",0,3,,40+'), ("not numbers ('1,200')",)),
    "time_with_unit.csv": (rows("p2,20 months,0,3,,40+"), ("not numbers ('20 months')",)),
    "time_na.csv": (rows("p2,NA,0,3,,40+"), ("not numbers ('NA')", "leave missing values empty")),
    "time_dot.csv": (rows("p2,.,0,3,,40+"), ("not numbers ('.')",)),
    "time_date.csv": (rows("p2,2015-03-31,0,3,,40+"), ("not numbers ('2015-03-31')",)),
    "time_hex.csv": (rows("p2,0x14,0,3,,40+"), ("not numbers ('0x14')",)),
    "time_underscore.csv": (rows("p2,2_0,0,3,,40+"), ("not numbers ('2_0')",)),
    "time_arabic_digits.csv": (rows("p2,٢٠,0,3,,40+"), ("not numbers",)),
    "time_minus_sign.csv": (rows("p2,−20,0,3,,40+"), ("not numbers ('−20')",)),
    "time_nonbreaking_space.csv": (rows("p2,2\u00a00,0,3,,40+"), ("not numbers",)),
    "formula.csv": (rows("p2,=1+1,0,3,,40+"), ("not numbers ('=1+1')",)),
    "formula_command.csv": (rows("p2,=cmd|' /C calc'!A0,0,3,,40+"), ("not numbers",)),
    "days_called_months.csv": (
        "\n".join([HEADER.strip(), *[f"q{k},{900 + 10 * k},1,30,,40-" for k in range(9)]]) + "\n",
        ("months: a median follow-up of 940 months", "check the unit"),
    ),
    "hours_called_months.csv": (
        "\n".join([HEADER.strip(), *[f"q{k},0.00{k + 1},1,,,40-" for k in range(9)]]) + "\n",
        ("months: a median follow-up of 0.005 months", "check the unit"),
    ),
    # Events.
    "event_missing.csv": (rows("p2,20,,3,,40+"), ("died: values other than 0 and 1", "p2")),
    "event_2.csv": (rows("p2,20,2,3,,40+"), ("died: values other than 0 and 1", "p2")),
    "event_yes.csv": (rows("p2,20,yes,3,,40+"), ("died: values that are not numbers ('yes')",)),
    "event_true.csv": (rows("p2,20,True,3,,40+"), ("died: values that are not numbers",)),
    "event_half.csv": (rows("p2,20,0.5,3,,40+"), ("died: values other than 0 and 1",)),
    # Phases.
    "phase_negative.csv": (rows("p2,20,0,-3,,40+"), ("c_month: negative or infinite starts", "p2")),
    "phase_late.csv": (rows("p2,20,0,3,21,40+"), ("m_month", "after the end of follow-up", "p2")),
    "phases_out_of_order.csv": (
        rows("p1,10,1,5,2,40-"),
        ("m_month", "starts before consolidation"),
    ),
    "phase_text.csv": (rows("p1,10,1,2,cycle 6,40-"), ("m_month", "not numbers ('cycle 6')")),
    "phase_infinite.csv": (rows("p1,10,1,2,1e400,40-"), ("m_month: negative or infinite starts",)),
    # Covariates.
    "covariate_missing.csv": (rows("p2,20,0,3,,"), ("age: missing or infinite values", "p2")),
    "covariate_100000_characters.csv": (
        rows("p2,20,0,3,," + "x" * 100_000),
        ("texts of more than 200", "p2"),
    ),
    "covariate_many_levels.csv": (
        "\n".join([HEADER.strip(), *[f"q{k},{5 + k},1,2,,level {k}" for k in range(60)]]) + "\n",
        ("age: 60 different texts", "at most 50 levels"),
    ),
    # Readable, and nothing to learn from it.
    "one_patient.csv": (HEADER + "p1,10,1,2,5,40-\n", ("only one patient is eligible",)),
    "no_events.csv": (rows().replace(",1,", ",0,"), ("no event among the eligible patients",)),
    "all_exposed.csv": (
        HEADER + "p1,10,1,2,2,40-\np2,20,0,3,3,40+\np3,8,1,2,2,40-\n",
        ("no eligible patient has time outside maintenance",),
    ),
    "none_exposed.csv": (
        HEADER + "p1,10,1,2,,40-\np2,20,0,3,,40+\np3,8,1,2,,40-\n",
        ("no eligible patient has time in maintenance",),
    ),
    "none_eligible.csv": (
        HEADER + "p1,10,1,,5,40-\np2,20,0,,,40+\np3,8,1,,,40-\n",
        ("no patient is ever eligible",),
    ),
    "everything_tied.csv": (
        HEADER + "p1,10,1,2,10,40-\np2,10,1,2,10,40-\np3,10,1,2,10,40-\n",
        ("no eligible patient has time in maintenance",),
    ),
    # Several at once.
    "everything_wrong.csv": (
        HEADER + "p1,-1,1,2,,40-\np1,20,3,3,,40+\n,8,1,2,,40-\np4,NA,1,9,4,\n",
        (
            "ids that stand in more than one row",
            "missing ids",
            "negative or infinite times",
            "values other than 0 and 1",
            "not numbers ('NA')",
            "starts before consolidation",
            "missing or infinite values",
        ),
    ),
}
for spelling in ("nan", "NaN", "NAN", "-nan", "#N/A", "null", "None", "Inf", "-inf", "+Infinity"):
    name = (
        spelling.replace("#", "hash").replace("/", "_").replace("+", "plus ").replace("-", "minus ")
    )
    TEXTS[f"time_spelled_{name.replace(' ', '_')}.csv"] = (
        rows(f"p2,{spelling},0,3,,40+"),
        (f"not numbers ('{spelling}')", "p2"),
    )


def frame() -> pd.DataFrame:
    """The good table with types."""
    table = pd.DataFrame([line.split(",") for line in GOOD], columns=HEADER.strip().split(","))
    for column in ("months", "died", "c_month", "m_month"):
        table[column] = pd.to_numeric(table[column])
    return table


def main() -> None:
    for name, (text, _) in TEXTS.items():
        (HERE / name).write_text(text, encoding="utf-8", newline="")
    expected = {name: lines for name, (_, lines) in TEXTS.items()}
    good = rows()

    def put(name: str, content: bytes, *lines: str) -> None:
        (HERE / name).write_bytes(content)
        expected[name] = lines

    put("latin1.csv", rows("p2,20,0,3,,größer").encode("latin-1"), "not UTF-8 text")
    put("utf16.csv", good.encode("utf-16"), "file:")
    put("binary.csv", bytes(range(256)), "file:")
    put("nul_bytes.csv", good.replace("p2", "p\0").encode(), "it is no text file")
    put("excel_renamed.csv", b"PK\x03\x04" + bytes(200), "it is no text file")
    put("not_parquet.parquet", good.encode(), "it cannot be read")
    put("empty.parquet", b"", "it is empty")
    put("not_arrow.arrow", good.encode(), "it cannot be read")
    put("not_sas.xpt", good.encode(), "it cannot be read")
    put("not_sas.sas7bdat", good.encode(), "it cannot be read")
    put("spreadsheet.xlsx", b"PK\x03\x04", "files of type '.xlsx' are not read")
    put("no_type", good.encode(), "are not read")
    frame().to_parquet(HERE / "whole.parquet")
    whole = (HERE / "whole.parquet").read_bytes()
    (HERE / "whole.parquet").unlink()
    put("truncated.parquet", whole[: len(whole) // 2], "it cannot be read")
    dated = frame()
    dated["months"] = pd.Timestamp("2015-01-01") + pd.to_timedelta(dated["months"], unit="D")
    dated.to_parquet(HERE / "dates_as_times.parquet")
    expected["dates_as_times.parquet"] = (
        "months: values that are not numbers",
        "read_dated_cohort",
    )
    infinite = frame().astype({"months": "float64"})
    infinite.loc[1, "months"] = float("inf")
    infinite.to_parquet(HERE / "infinite.parquet")
    expected["infinite.parquet"] = ("months: negative or infinite times", "p2")
    (HERE / "folder.csv").mkdir(exist_ok=True)
    (HERE / "folder.csv" / "keep").write_text("")
    expected["folder.csv"] = ("is a folder",)
    for name, lines in expected.items():
        (HERE / f"{name}.expected").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
