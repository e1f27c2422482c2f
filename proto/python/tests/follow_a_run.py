"""Lists, watches, starts and cancels runs of a real coordinator, whose directory and runs the test that calls
this file has made: `follow_a_run.py DIRECTORY RUN NOTEBOOK`."""

import json
import sys
from pathlib import Path

from fedner import Coordinator, Refused


def main(directory: str, run: str, notebook: str) -> None:
    with Coordinator.from_directory(directory) as operator, Coordinator.from_directory(directory, viewer=True) as viewer:
        assert [found.run for found in viewer.runs()] == [run]
        assert [found.institution for found in viewer.institutions()] == ["i0"]
        assert viewer.run(run).state == "created" and not viewer.run(run).has_ended
        assert viewer.explain(run).awaits == "the operator to start the run"
        # A viewer may only look.
        try:
            viewer.start(run)
            raise AssertionError("a viewer has started a run")
        except Refused as refused:
            assert refused.code == "role-forbidden" and refused.hint, refused
        try:
            viewer.run("nothing")
            raise AssertionError("there is no such run")
        except Refused as refused:
            assert refused.code == "run-unknown", refused
        operator.start(run)
        seen = []
        for event in viewer.watch(run):
            seen.append(event)
            if event.kind == "round_finished" and event.fields["round"] == 2:
                break
        kinds = [event.kind for event in seen]
        assert kinds[:2] == ["run_created", "run_started"], kinds
        assert "update_accepted" in kinds and all(event.run == run for event in seen)
        operator.cancel(run)
        for event in viewer.watch(run, since=seen[-1].sequence + 1):
            if event.kind == "run_cancelled":
                break
        after = viewer.run(run)
        assert after.state == "cancelled" and after.has_ended and after.round >= 2, after
        assert after.members[0].institution == "i0" and after.members[0].f1 is not None, after
        newest = viewer.lineage("notes@3")
        assert [version.name for version in newest] == ["notes@3", "notes@2", "notes@1", "base@1"]
        found, imagined, missed = newest[0].counts["i0"]["Person"]
        assert min(found, imagined, missed) >= 0 and found + missed > 0
        assert len(viewer.models()) == 4 and newest[0].f1 is not None
    cells = json.loads(Path(notebook).read_text())["cells"]
    # The last cell draws, for which a notebook has matplotlib.
    names = {"DIRECTORY": directory, "RUN": run}
    for cell in [cell for cell in cells if cell["cell_type"] == "code"][:-1]:
        exec("".join(cell["source"]), names)  # noqa: S102
    assert len(names["rounds"]) >= 2, names["rounds"]
    print("ok")


main(*sys.argv[1:])
