"""What a report says: results turned into headings, tables, sentences, plots and pages."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter

from sketchknitter.experiments import published
from sketchknitter.experiments.agreement import agreement_blocks, clamp_blocks
from sketchknitter.experiments.conditional import conditional_blocks
from sketchknitter.experiments.declare import CLEAN, REAL
from sketchknitter.experiments.results import Measured, Results
from sketchknitter.experiments.sets import ALL
from sketchknitter.experiments.sheet import sheet
from sketchknitter.experiments.summary import cell, mean_and_spread, shown, value
from sketchknitter.metrics.metric import choose
from sketchknitter.plot import Series
from sketchknitter.reports.document import (
    Block,
    Bullets,
    Heading,
    Page,
    Picture,
    Plot,
    Table,
    Text,
    number,
)

ARROWS = {"lower": " ↓", "higher": " ↑", "floor": ""}
BRIEF = ("fid_sketch", "precision", "recall")  # of each fold
TITLES = {"table": "Results", "clamp": "Clamping x_0", "frontier": "Quality against steps"}


def blocks(results: Results) -> list[Block]:
    """The whole report in order."""
    table = results.table
    out: list[Block] = [Heading(table.title, 1)]
    if table.about:
        out.append(Text(table.about))
    out.append(Text(_protocol(results)))
    for group, rows in results.groups.items():
        out.append(Heading(TITLES.get(group, group)))
        rows = _in_order(rows, results)
        floor = results.floors.get(group)
        out += _figures(rows, floor)
        out += clamp_blocks(rows)
        out += conditional_blocks(rows)
        out += _plot(results, rows)
        out += _paired(results, rows)
        out += _costs(rows, results)
        out += _notes(rows)
        if floor is not None:
            out += _by_fold(rows, floor, results)
    if results.omitted:
        out.append(Heading("Left out"))
        out.append(Bullets(tuple(f"{name}: {why}" for name, why in results.omitted.items())))
    out += agreement_blocks(results)
    out += _curves(results)
    out.append(Heading("Conditions"))
    out.append(Bullets(tuple(f"{k}: {v}" for k, v in results.conditions.items())))
    return out + _pages(results)


def _protocol(results: Results) -> str:
    if not results.floors:
        m = results.table.measure
        return (
            f"Mean ± standard deviation over {m.seeds} seeds of damage and sampling; "
            f"{m.drawings} drawings, {m.drawings // len(results.table.classes or (0,))} of each "
            "class at most."
        )
    measure = results.table.measure
    rows = [r for part in results.groups.values() for r in part]
    single = [r.row.name for r in rows if len(results.table.seeds(r.row)) == 1]
    many = f" (one seed: {'; '.join(single)})" if single and measure.seeds > 1 else ""
    return (
        f"Every row: N = {measure.drawings} drawings unless its table says otherwise, equally many "
        f"of each class, against equally many real test drawings. Figures are means over "
        f"{measure.seeds} sampling seeds ± standard deviation{many}; all rows share their seeds. "
        "The floor is what two disjoint halves of held-out real drawings (validation and test) "
        "score at the same N, its spread over ways to halve them: no figure means anything without "
        "it. `fid_sketch` is a Fréchet distance on our own judge's features and must not be "
        "compared with a published FID. W is the Wasserstein distance of a stroke statistic."
    )


def _in_order(rows: list[Measured], results: Results) -> list[Measured]:
    """As declared; rows of a plot by the setting on its x axis, the best of each first."""
    if results.table.plot is None:
        return rows
    axis = results.table.plot[0]

    def place(r: Measured) -> tuple[float, float]:
        fid = value(r, "fid_sketch")
        return float(r.row.settings.get(axis, -1)), fid.mean if fid is not None else 0.0

    return sorted(rows, key=place)


def _figures(rows: list[Measured], floor: Measured | None) -> Iterator[Block]:
    every = rows if floor is None else [*rows, floor]
    metrics = shown(every)
    head = (f"N = {rows[0].drawings[ALL]}", *(m.heading + ARROWS[m.better] for m in metrics))
    lines_ = [
        (f"**{r.row.name}**" if r is floor else r.row.name, *(cell(r, m) for m in metrics))
        for r in every
    ]
    yield Table(head, tuple(lines_))


def _costs(rows: list[Measured], results: Results) -> Iterator[Block]:
    made = [r for r in rows if r.row.model not in (REAL, CLEAN)]
    if not made:
        return
    head = (
        "cost",
        "seconds a sketch",
        "processor seconds",
        "evaluations",
        "published seconds",
        "parameters",
        "updates × batch",
        "training, minutes",
        "processor minutes",
    )
    body = []
    for r in made:
        theirs, facts = published.seconds(r.row.published), r.facts
        body.append(
            (
                r.row.name,
                number(r.seconds),
                number(r.cpu),
                number(r.evaluations) or "–",
                f"{theirs:g}" if theirs is not None else "–",
                f"{facts.parameters:,}" if facts.parameters else "–",
                f"{facts.updates:,} × {facts.batch_size}" if facts.updates else "–",
                number(facts.seconds / 60) if facts.seconds else "–",
                number(facts.cpu / 60) if facts.cpu else "–",
            )
        )
    yield Table(head, tuple(body))
    threads = sorted({r.threads for r in made})
    yield Text(
        f"Timed while drawing in batches of {results.table.measure.batch_size} on "
        f"{' or '.join(map(str, threads))} thread(s), wall-clock beside processor time: where the "
        "two differ, the machine was busy with other work, and processor time is the one to "
        "believe. Rows of one model share its training."
    )


def _notes(rows: list[Measured]) -> Iterator[Block]:
    items = tuple(f"{r.row.name}: {r.row.note}" for r in rows if r.row.note)
    if items:
        yield Bullets(items)


def _by_fold(rows: list[Measured], floor: Measured, results: Results) -> Iterator[Block]:
    folds = [f for f in floor.figures if f != ALL]
    if not folds:
        return
    listed = "; ".join(
        f"{fold}: {', '.join(f'{c} {results.points[c]:.0f}' for c in results.folds[fold])}"
        for fold in folds
    )
    yield Heading("By average stroke points", 3)
    yield Text(
        f"Classes by the average points of their training drawings ({listed}); Simple < 40, "
        "Moderate 40 to 100, Complex > 100. N differs by fold, so each has its own floor."
    )
    metrics = choose(BRIEF)
    head = ["fold"]
    for fold in folds:
        n = floor.drawings.get(fold, 0)
        head += [f"{fold} {m.title}{ARROWS[m.better]} (N = {n})" for m in metrics]
    body = [
        (r.row.name, *(cell(r, m, fold) for fold in folds for m in metrics)) for r in [*rows, floor]
    ]
    yield Table(tuple(head), tuple(body))


def _plot(results: Results, rows: list[Measured]) -> Iterator[Block]:
    """Quality against a setting, one line for each name the template gives."""
    if results.table.plot is None:
        return
    axis, template = results.table.plot
    named = {axis, *(name for _, name, _, _ in Formatter().parse(template) if name)}
    found: dict[str, list[tuple[float, float]]] = {}
    for r in rows:
        fid = value(r, "fid_sketch")
        if fid is not None and named <= set(r.row.settings):
            name = template.format(**r.row.settings)
            found.setdefault(name, []).append((float(r.row.settings[axis]), fid.mean))
    found = {name: points for name, points in found.items() if len(points) > 2}
    if not found:
        return
    series = [
        Series(name, [x for x, _ in sorted(points)], [y for _, y in sorted(points)])
        for name, points in found.items()
    ]
    halves = results.floors.get(rows[0].row.group)
    floor = value(halves, "fid_sketch") if halves is not None else None
    if floor is not None:
        ends = sorted({x for s in series for x in s.x})
        series.append(Series("floor", [ends[0], ends[-1]], [floor.mean, floor.mean]))
    title = f"fid_sketch against {axis}"
    yield Plot("frontier.png", tuple(series), title, axis, log_x=True, log_y=True)


def _paired(results: Results, rows: list[Measured]) -> Iterator[Block]:
    """Differences to each row that the table names, seed by seed, and the best at each budget."""
    for other in (r for r in rows if r.row.name in results.table.compare):
        yield Heading(f"Against {other.row.name}", 3)
        yield Text(
            "Differences of rows that share their seeds, mean ± standard deviation over the seeds "
            "that both have; negative: nearer to real drawings."
        )
        base = other.figures[ALL]["fid_sketch"]
        lines_ = []
        for r in rows:
            if r is not other:
                pairs = zip(r.figures[ALL]["fid_sketch"], base, strict=False)
                apart = mean_and_spread([a - b for a, b in pairs])
                lines_.append((apart.mean, r.row.name, apart.text(), str(apart.seeds)))
        body = tuple(line[1:] for line in sorted(lines_))
        yield Table(("row", "difference in FID (sketch)", "seeds"), body)
    if results.table.plot is not None:
        best: dict[int, tuple[float, str]] = {}
        for r in rows:
            fid, steps = value(r, "fid_sketch"), r.row.settings.get("steps")
            if fid is not None and steps is not None:
                here = (fid.mean, f"S = {steps}: {r.row.name}, {fid.text()}")
                best[steps] = min(best.get(steps, here), here)
        yield Text("The lowest FID (sketch) at each budget:")
        yield Bullets(tuple(best[s][1] for s in sorted(best)))


def _curves(results: Results) -> Iterator[Block]:
    rows = {r.row.model: r for part in results.groups.values() for r in part}
    trained = {m: r.facts for m, r in rows.items() if r.facts.losses or r.facts.held_out}
    if not trained:
        return
    yield Heading("Learning curves")
    yield Text(
        "Mean loss of each point, averaged over 25 updates, and on held-out drawings at each save. "
        "Losses of different representations and parametrizations are not comparable."
    )
    for name, file, title in (
        ("losses", "training-loss.png", "training loss"),
        ("held_out", "held-out-loss.png", "loss on held-out drawings"),
    ):
        curves = {model: getattr(facts, name) for model, facts in trained.items()}
        series = [
            Series(model, [x for x, _ in points], [y for _, y in points])
            for model, points in curves.items()
            if points
        ]
        if series:
            yield Plot(file, tuple(series), title, "updates", log_y=True)
    remarks = [
        f"{model}: {'; '.join(facts.said())}" for model, facts in trained.items() if facts.remarks
    ]
    if remarks:
        yield Bullets(tuple(remarks))


def _pages(results: Results) -> list[Block]:
    out: list[Block] = [
        Heading("Drawings"),
        Text(
            "Drawn at random from the first seed of each row; none was picked. Rows of one damage "
            "show the same drawings."
            if any(r.row.damage for part in results.groups.values() for r in part)
            else "Drawn at random from the first seed of each row; none was picked."
        ),
    ]
    fresh = [r for part in results.groups.values() for r in part if r.shown and not r.row.damage]
    if len({r.row.model for r in fresh}) > 1:
        out.append(Picture("drawings.png", sheet([(r.row.name, r.shown) for r in fresh])))
    for group, part in results.groups.items():
        head = f"{group}: " if any(r.row.damage for r in part) else ""
        out += [Page(f"{head}{r.row.name}", r.shown) for r in part if r.shown]
    return out if len(out) > 2 else []
