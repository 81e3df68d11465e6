"""The processes of a whole run share out the tests so that each training and each export is made once, in one of them.

That is not seen from the answers: where it fails, the run is only longer.
"""

from __future__ import annotations

from types import SimpleNamespace

TOGETHER = [
    ["tests/detection/test_cli.py::test_a[1]", "tests/detection/prediction/test_video.py::TestB::test_c"],
    ["tests/deployment/test_command.py::test_d[e::f@g]", "tests/test_readme.py::test_h[i --j [1]]"],
    ["tests/engine/test_names.py::test_k", "tests/engine/test_names.py::test_l[m/n]"],
    ["tests/engine/test_threads.py::test_o"],
]


class Process:
    """What the scheduler knows of a process of pytest-xdist; keeps the tests that it is given."""

    shutting_down = False

    def __init__(self, name):
        self.gateway, self.given = SimpleNamespace(id=name), []

    def send_runtest_some(self, places):
        self.given += places

    def shutdown(self):
        self.shutting_down = True


def test_what_shares_costly_things_runs_in_one_process(pytestconfig):
    # In turns, as no run collects them: the grouping alone brings them together.
    names = [names[turn] for turn in range(2) for names in TOGETHER if turn < len(names)]
    values = {"dist": "loadgroup", "tx": ["2*popen"]}
    config = SimpleNamespace(getvalue=values.get, option=SimpleNamespace(loadscopereorder=True))
    scheduler = pytestconfig.hook.pytest_xdist_make_scheduler(config=config, log=None)
    processes = [Process("gw0"), Process("gw1")]
    scheduler.numnodes = 2
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, names)
    scheduler.schedule()
    while not all(process.shutting_down for process in processes):
        for process in processes:
            done = sum(sum(unit.values()) for unit in scheduler.assigned_work[process].values())
            scheduler.mark_test_complete(process, process.given[done])
    ran = [{names[place] for place in process.given} for process in processes]
    assert sorted(place for process in processes for place in process.given) == list(range(len(names)))
    assert all(sum(set(together) <= each for each in ran) == 1 for together in TOGETHER)
    assert all(ran)
