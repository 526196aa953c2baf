import io
import json
import math

import pytest
from rich.console import Console

from flames_cli.cli import consoles, render
from flames_cli.stages.partition.stage import Partitioned
from flames_cli.stages.tsne.stage import Map
from flames_cli.store.partition import ClientEntry, Partition, ServerEntry


def console_of(width=80):
    return Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)


def written(show, *args, width=80):
    console = console_of(width)
    show(console, *args)
    return console.file.getvalue()


def test_json_has_no_number_that_json_has_not(capsys):
    render.print_json(
        {"a": [math.nan, math.inf, (-math.inf, 1.5)], "b": {"c": math.nan, "d": "NaN"}, "e": True}
    )
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [None, None, [None, 1.5]],
        "b": {"c": None, "d": "NaN"},
        "e": True,
    }


def test_json_is_ascii_so_that_every_stream_takes_it(capsys):
    render.print_json({"path": "ünï [bold] :cat: \udcff"})
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"path": "ünï [bold] :cat: \udcff"}


@pytest.mark.parametrize("make", [consoles.results, consoles.watching])
def test_what_looks_like_markup_is_printed_as_it_is(make, capsys):
    make().print("/data/[old]/:cat:/[/] 12")
    captured = capsys.readouterr()
    assert captured.out + captured.err == "/data/[old]/:cat:/[/] 12\n"
    assert (captured.err == "") == (make is consoles.results)


def report(**changes):
    lesions = {
        "rule": "area:1000:1000",
        "sets": {
            "client_train": {"small": 2, "large": 7, "none": 0},
            "server_test": {"small": 1, "large": 0, "none": 0},
        },
    }
    sets = {"client_train": {"images": 9, "patients": 8}, "server_test": {"images": 1, "patients": 1}}
    made = {
        "dataset": "busi",
        "modality": "US",
        "organ": "breast",
        "patient_unit": "patient",
        "sets": sets,
        "small_lesions": lesions,
        "sites": {"C1": {"images": 3, "patients": 2}},
        "sites_left_out": {},
        "file": "busi.h5",
    }
    empty = (
        "skipped",
        "unused_columns",
        "bad",
        "copies_left_out",
        "near_copies_kept_together",
        "ids_alike_kept_together",
        "large_groups",
    )
    lists = {key: [] for key in empty}
    return {**made, **lists, "kept_columns": {}, **changes}


def test_a_data_set_s_report_lists_all_that_was_left_out(tmp_path):
    shown = written(
        render.print_preprocessed,
        report(
            skipped=[{"name": str(number), "reason": "the mask is empty"} for number in range(3)],
            bad=["p-0123456789abcdef"],
            copies_left_out=[{"name": "p-23", "same_as": "p-45"}],
            unused_columns=["age", "scanner"],
            kept_columns={
                "sex": {"values": 2, "of_one_patient": 0},
                "born": {"values": 9, "of_one_patient": 7},
            },
            near_copies_kept_together=[["a", "b"]],
            ids_alike_kept_together=[["c", "d"]],
        ),
        tmp_path,
    )
    assert "busi (US, breast)" in shown
    assert "│ client_train │        8 │      9 │" in shown
    for line in (
        "sites, images (patients): C1 3 (2)",
        "columns of the manifest that are not used: age, scanner",
        "column sex is in shards and results: 2 values",
        "column born is in shards and results: 9 values, 7 of them of one patient only",
        "left out 1 image: the same as another",
        "kept 1 group of near copies together, each in one set",
        "kept 1 group of patients together whose ids differ only in spelling; flames \ncheck lists them",
        "skipped 3 cases: the mask is empty",
        "left out 1 bad case",
        f"→ {tmp_path / 'private' / 'busi.csv'}",
    ):
        assert f"{line}\n" in shown
    assert shown.endswith(f"→ {tmp_path / 'preprocessed' / 'busi.h5'}\n")


def test_a_large_group_of_near_copies_is_named_with_its_set(tmp_path):
    large = [{"patients": 4, "images": 5, "set": "client_train"}]
    shown = written(render.print_preprocessed, report(large_groups=large), tmp_path)
    assert "one group of near copies has 5 of 10 images, all in client_train" in shown


def test_a_sound_data_set_s_report_is_its_table(tmp_path):
    assert "\nleft out" not in written(render.print_preprocessed, report(), tmp_path)


def test_a_data_set_s_report_counts_its_small_lesions(tmp_path):
    shown = written(render.print_preprocessed, report(), tmp_path)
    assert "small lesions (image area / lesion area ≥ 1000): 3 of 10 images\n" in shown
    box = {"rule": "box:150:100", "sets": {"client_train": {"small": 1, "large": 0, "none": 4}}}
    shown = written(render.print_preprocessed, report(small_lesions=box), tmp_path)
    line = "small lesions (image area / box of the smallest lesion ≥ 150): 1 of 5 images, 4 without a lesion"
    assert line in " ".join(shown.split())
    assert max(len(line) for line in shown.splitlines() if str(tmp_path) not in line) <= 80


def named(partition, tmp_path, aside=""):
    return Partitioned("default", tmp_path / "partitions" / "default", partition, aside)


def test_a_partition_shows_images_and_patients(tmp_path):
    patients = {"train": ["a", "b"], "val": ["c"], "test": []}
    client = ClientEntry("busi", "busi", "US", "breast", "s", {"train": 5, "val": 1, "test": 0}, patients)
    server = ServerEntry("US", "s", {"busi": "breast"}, {"busi": 7}, {"busi": ["d", "e"]})
    shown = written(render.print_partition, named(Partition(0, 240, [client], [server]), tmp_path))
    assert "│ busi   │ US       │ breast │ 5 (2) │ 1 (1) │ 0 (0) │" in shown
    assert "│             7 (2) │" in shown
    assert "every shard read back: no named patient is in two sets (5 patients, 1 data set)\n" in shown
    assert "volume" not in shown
    assert "busi has no test patients: its model is tested by the server only\n" in shown
    assert "left out" not in shown


def test_a_data_set_s_report_says_that_patients_are_unknown(tmp_path):
    shown = written(render.print_preprocessed, report(patient_unit="image"), tmp_path)
    assert "images (patients unknown)" in shown
    assert "│ client_train │                         9 │" in shown
    assert "sites, images (patients unknown): C1 3\n" in shown
    sequences = written(render.print_preprocessed, report(patient_unit="sequence"), tmp_path)
    assert "│ client_train │         8 │      9 │" in sequences
    assert "sites, images (sequences): C1 3 (2 seq.)\n" in sequences


def client_of(name, unit, *patients):
    of_set = dict(
        zip(("train", "val", "test"), [list(patients[:-2]), [patients[-2]], [patients[-1]]], strict=True)
    )
    images = {own: 2 * len(listed) for own, listed in of_set.items()}
    return ClientEntry(name, name, "US", "breast", "s", images, of_set, patient_unit=unit)


def test_a_partition_says_what_was_checked_and_where_patients_are_unknown(tmp_path):
    clients = [
        client_of("brats", "patient", *"abc"),
        client_of("lits", "patient", *"def"),
        client_of("cvc", "sequence", *"wxyz"),
        client_of("busi", "image", *"123"),
    ]
    units = {"busi": "image", "otu2d": "image"}
    server = ServerEntry(
        "US", "s", dict.fromkeys(units, "o"), {"busi": 7, "otu2d": 8}, {"busi": ["4"], "otu2d": ["5"]},
        patient_units=units,
    )  # fmt: skip
    made = Partition(0, 240, clients, [server])
    shown = written(render.print_partition, named(made, tmp_path), width=300)
    cells = " ".join(shown.split())
    assert "│ lits │ US │ breast │ 2 (1) │ 2 (1) │ 2 (1) │" in cells
    assert "│ cvc │ US │ breast │ 4 (2 seq.) │ 2 (1 seq.) │ 2 (1 seq.) │" in cells
    assert "│ busi │ US │ breast │ 2 │ 2 │ 2 │" in cells
    assert "busi: images (patients unknown)\n" in shown
    assert "server's test sets: unseen images" in shown
    for claim in (
        "every shard read back: no named patient is in two sets (6 patients, 2 data sets); no sequence is in",
        "; no sequence is in two sets (4 sequences, 1 data set); busi, otu2d name no patients: near copies",
        "; busi, otu2d name no patients: near copies were kept together by their pictures\n",
    ):
        assert claim in shown
    only = written(render.print_partition, named(Partition(0, 240, [clients[-1]], []), tmp_path), width=300)
    assert "clients: images (patients unknown)" in only
    assert "every shard read back: busi names no patients: near copies" in only
    told = Partition(0, 240, clients[:2], [], options={"different_people": True})
    assert "; one id in two data sets was taken for different people\n" in written(
        render.print_partition, named(told, tmp_path), width=300
    )


def test_a_partition_shows_unseen_sites_and_what_they_leave_out(tmp_path):
    patients = {"train": ["a"], "val": ["c"], "test": ["d"]}
    images = {"train": 5, "val": 1, "test": 2}
    client = ClientEntry("lits-c1", "lits", "CT", "liver", "s", images, patients, site="C1")
    organs = {"lits": "liver", "lits@C5": "liver"}
    server = ServerEntry("CT", "s", organs, {"lits": 7, "lits@C5": 3}, {"lits": ["d"], "lits@C5": ["e", "f"]})
    made = Partition(0, 240, [client], [server], left_out={"lits": 1})
    shown = written(render.print_partition, named(made, tmp_path))
    assert "│ CT       │ lits@C5  │ liver │             3 (2) │" in shown
    assert "left out 1 image of lits: near copies or patients of a held-out site\n" in shown
    assert "no test patients" not in shown
    assert shown.endswith(f"→ {tmp_path / 'partitions' / 'default' / 'partition.json'}\n")


def test_a_partition_says_where_the_earlier_one_of_its_name_is(tmp_path):
    made = named(Partition(0, 240, [client_of("brats", "patient", *"abc")], []), tmp_path, "default-old-1")
    shown = written(render.print_partition, made, width=300)
    assert "the earlier partition 'default' is called 'default-old-1' now: runs that were made on it" in shown
    assert render.partition_json(made)["set_aside"] == "default-old-1"


def map_of(folder, **changes):
    made = {
        "features": "pixels",
        "run": None,
        "models": 0,
        "images": {"busi": 9},
        "silhouette_modality": 0.5,
        "silhouette_modality_map": 0.7,
        "silhouette_client": 0.1,
    }
    return Map(folder=folder, files=[], **{**made, **changes})


def test_a_map_reports_how_modalities_separate(tmp_path):
    shown = written(render.print_map, map_of(tmp_path))
    assert "silhouette 0.50 in pixels, 0.70 on the map" in shown
    assert "clients with 0.10" in shown
    assert "models" not in shown
    deep = written(render.print_map, map_of(tmp_path, features="deep", silhouette_client=None))
    assert "in deep features, " in deep
    assert "clients" not in deep
    assert "come from 2 models" in written(render.print_map, map_of(tmp_path, features="deep", models=2))
    assert "nothing to separate" in written(render.print_map, map_of(tmp_path, silhouette_modality=None))
    assert render.map_json(map_of(tmp_path))["folder"] == str(tmp_path)


def test_info_says_none_where_there_is_nothing(tmp_path):
    from flames_cli.stages.info.stage import info

    shown = written(render.print_info, info(tmp_path / "gone"))
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("none") >= 3


def test_complete_volumes_are_counted_apart_from_images(tmp_path):
    sets = {"client_train": {"images": 5, "patients": 3, "volumes": 3, "slices": 40}}
    sets |= {"client_test": {"images": 2, "patients": 1, "volumes": 1, "slices": 20}}
    shown = written(render.print_preprocessed, report(sets=sets), tmp_path)
    assert "stored 4 complete volumes with 60 slices\n" in shown
    numbers = {"train": 5, "val": 1, "test": 2}, {"train": ["a"], "val": ["b"], "test": ["c"]}
    client = ClientEntry("brats", "brats", "MRI", "brain", "s", *numbers, test_volumes=(1, 20))
    server = ServerEntry("MRI", "s", {"brats": "brain"}, {"brats": 7}, {"brats": ["d", "e"]})
    server.test_volumes["brats"] = (2, 35)
    shown = written(render.print_partition, named(Partition(0, 240, [client], [server]), tmp_path))
    assert "test sets have 3 volumes with 55 slices\n" in shown


def test_warnings_of_a_partition_come_first_and_are_in_its_json(tmp_path):
    made = Partitioned(
        "default", tmp_path, Partition(0, 8, [], []), notes=("site healthy of h is no client",)
    )
    assert written(render.print_partition, made).startswith("warning: site healthy of h is no client\n")
    assert render.partition_json(made)["notes"] == ["site healthy of h is no client"]
    assert "notes" not in render.partition_json(Partitioned("default", tmp_path, Partition(0, 8, [], [])))
