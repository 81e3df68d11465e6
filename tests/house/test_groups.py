"""The processes of a whole run share out the tests so that each training and each export is made once, in one of them.

That is not seen from the answers: where it fails, the run is only longer.
"""

from __future__ import annotations

from types import SimpleNamespace

TOGETHER = {
    "detection": ["tests/detection/test_cli.py::test_a[1]", "tests/detection/prediction/test_b.py::TestC::test_d"],
    "deployment": ["tests/deployment/test_e.py::test_f[a::b@c]", "tests/test_readme.py::test_g[x --y [1]]"],
    "engine/test_h.py": ["tests/engine/test_h.py::test_i", "tests/engine/test_h.py::test_j[k/l]"],
    "engine/test_m.py": ["tests/engine/test_m.py::test_n"],
}


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
    names = [names[turn] for turn in range(2) for names in TOGETHER.values() if turn < len(names)]
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
    assert all(sum(set(together) <= each for each in ran) == 1 for together in TOGETHER.values())
    assert all(ran)
