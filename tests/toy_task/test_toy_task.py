"""A task of a third party is found by its entry point, and every command runs."""

from pathlib import Path

from engine.cli.main import main
from engine.tasks import task_names


def test_a_third_task_is_a_folder_and_an_entry(tmp_path, monkeypatch, capfd):
    assert "signs" not in task_names()
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # as if toy_task-1.dist-info were installed
    monkeypatch.chdir(tmp_path)
    assert task_names() == ["detection", "segmentation", "classification", "joint", "signs"]

    def said(*words: str, status: int = 0) -> str:
        assert main(["signs", *words]) == status
        return "".join(capfd.readouterr())

    assert main(["--help"]) == 0
    assert "signs          Signs of sums." in capfd.readouterr().out
    assert "predict --ckpt_path best --source 1,2,3,4" in said("--help")
    assert "--model.width                   Hidden numbers  (8)" in said("fit", "--help")
    said("fit", "--run.name", "one", "--model.width", "6", "--trainer.enable_progress_bar", "false")
    assert float(said("validate", "--ckpt_path", "best").partition("accuracy ")[2].split()[0]) > 0.8  # it learns
    assert "has 6" in said("validate", "--ckpt_path", "best", "--model.width", "5", status=2)
    assert said("predict", "--ckpt_path", "last", "--source", "[2, 2, 2, 2]").split()[0] == "1"
    assert said("predict", "--ckpt_path", "last", "--source", "[-2, -2, -2, -2]").split()[0] == "-1"
    assert "Did you mean 'model.width'?" in said("fit", "--model.widht", "3", status=2)
    assert "Did you mean 'fit'?" in said("fitt", status=2)
