"""Messages about an indexing run, and about the preview of a run (`index --dry-run`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinscope_client.cli.console import counted, note, say, say_runs, say_some

if TYPE_CHECKING:
    from pathlib import Path

    from twinscope_indexer.indexing.run import IndexReport

_UNKNOWN = "is not a category"
"""Part of each cause for which a list of the known categories helps."""
_CATEGORIES = 20
"""Maximum number of categories that are printed."""


def say_report(report: IndexReport, store: Path) -> None:
    """Print the results of a run."""
    counts = report.counts
    parts = [f"{counts[name]} {name}" for name in ("added", "changed", "unchanged", "relabelled") if counts[name]]
    taken = counts["withdrawn"] + counts["removed"]
    parts += [f"{taken} taken out"] if taken else []
    nothing = "the only images found are in skipped folders" if report.runs else "nothing to do"
    note(f"{store}: {', '.join(parts) or nothing}; {counted(report.searchable, 'image', 'images')} searchable "
        f"(generation {report.generation}).")  # fmt: skip
    _say_categories(report, store)
    say_runs(report.runs)
    say_some(
        f"{counted(counts['unhashable'], 'image has', 'images have')} too little structure to be identified; a search "
        "never returns such images:",
        [f"{uri}: {reason}" for uri, reason in report.unhashable], counts["unhashable"], _full_list(store),
    )  # fmt: skip
    if report.ignored:
        note(f"{counted(report.ignored.total(), 'file is not an image', 'files are not images')} "
            f"({_by_suffix(report)}).")  # fmt: skip
    if report.contradicting_prefixes:
        note(f"{report.contradicting_prefixes} of {report.prefixes} published file-name prefixes contradict the "
            "category of their image; Twinscope records the prefixes but does not use them.")  # fmt: skip
    if counts["withdrawn"]:
        say(f"{counted(counts['withdrawn'], 'image was', 'images were')} removed from the store, because the labels of "
            "this command give no category. To add them again, run the command with the right --labels or "
            "--taxonomy.")  # fmt: skip
    if counts["removed"]:
        say(f"{counted(counts['removed'], 'image was', 'images were')} removed because the files or pages no longer "
            "exist.")  # fmt: skip
    if counts["vanished"] and not report.pruned:
        say_some(
            f"{counted(counts['vanished'], 'file no longer exists', 'files no longer exist')}; --prune removes such "
            "images from the store:",
            report.vanished, counts["vanished"], "not listed here",
        )  # fmt: skip
    _say_left_out(report, store)
    listed = [f"{uri}: {message}" for uri, message in report.failures]
    failed = counts["failed"] - report.unknown_categories.total()
    say_some(f"{counted(failed, 'image', 'images')} could not be read:", listed, failed, _full_list(store))
    _say_unreadable(report, store)


def say_foreseen(report: IndexReport, store: Path) -> bool:
    """Print what a run would do. Return False if the run needs the option ``--yes``."""
    from twinscope_indexer.errors import RemovalError
    from twinscope_indexer.indexing.foresight import require_few_losses

    counts = report.counts
    names = {"added": "added", "changed": "read again", "unchanged": "unchanged", "relabelled": "relabelled"}
    parts = [f"{counts[name]} {shown}" for name, shown in names.items() if counts[name]]
    taken = counts["withdrawn"] + counts["removed"]
    parts += [f"{taken} taken out" if taken else "none taken out"]
    note(f"{store}: the command would give: {', '.join(parts)}. Nothing was written.")
    _say_categories(report, store)
    say_runs(report.runs)
    if counts["withdrawn"]:
        say(f"{counted(counts['withdrawn'], 'image', 'images')} would be taken out, because the labels of this command "
            "give no category.")  # fmt: skip
    say_some(
        f"{counted(counts['vanished'], 'file no longer exists', 'files no longer exist')}"
        f"{'; the images would be taken out' if report.pruned else ''}:",
        report.vanished, counts["vanished"], "not listed here",
    )  # fmt: skip
    _say_left_out(report, store)
    _say_unreadable(report, store)
    images = sum(report.categories.values()) + taken - counts["added"]
    try:
        require_few_losses(
            store, images, withdrawn=counts["withdrawn"], removed=counts["removed"],
            relabelled=report.relabelled,
        )  # fmt: skip
    except RemovalError as error:
        say(f"Without --yes, the command is refused: {error}.")
        return False
    return True


def _say_categories(report: IndexReport, store: Path) -> None:
    ordered = sorted(report.categories.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{name} {number}" for name, number in ordered[:_CATEGORIES]]
    more = len(ordered) - len(shown)
    rest = f", and {more} more (twinscope store stats {store})" if more else ""
    if shown:
        note(f"Categories: {', '.join(shown)}{rest}.")
    say_some(
        f"{counted(report.relabelled.total(), 'image has', 'images have')} another category than before:",
        [f"{number} {old} -> {new}" for (old, new), number in report.relabelled.most_common()],
        len(report.relabelled), "not listed here",
    )  # fmt: skip
    say_some(
        "Some folders are not categories, but may be meant as categories. If they are, name the folder above them as "
        "SOURCE, or give a table with --labels:",
        list(report.remarks), len(report.remarks), "not listed here",
    )  # fmt: skip


def _say_left_out(report: IndexReport, store: Path) -> None:
    causes = report.unknown_categories
    if not causes:
        return
    known = [pair for pair in causes.most_common() if pair[0] != "others"]
    others = [("other causes", causes["others"])] if causes["others"] else []
    say_some(
        f"{counted(causes.total(), 'image was', 'images were')} left out, because the category is not known:",
        [f"{counted(number, 'image', 'images')}: {cause}" for cause, number in [*known, *others]],
        len(known) + len(others), _full_list(store),
    )  # fmt: skip
    if not any(_UNKNOWN in cause for cause in causes):
        say(f"For the full list: {_full_list(store)}")
        return
    say(f"Known categories: {', '.join(report.known_categories)}.")
    say(
        f"For the full list: {_full_list(store)}. To include these images, use a --taxonomy that contains the names, a "
        "CSV file with --labels, or --unknown-category keep."
    )


def _say_unreadable(report: IndexReport, store: Path) -> None:
    number = len(report.unreadable)
    say_some(
        f"{counted(number, 'folder or archive', 'folders or archives')} could not be opened:",
        [f"{path}: {reason}" for path, reason in report.unreadable], number, _full_list(store),
    )  # fmt: skip


def _full_list(store: Path) -> str:
    return f"twinscope store export {store} --failures"


def _by_suffix(report: IndexReport) -> str:
    return ", ".join(f"{number} {suffix}" for suffix, number in report.ignored.most_common(5))
