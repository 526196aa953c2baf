from flames_cli.config import PartitionConfig
from flames_cli.stages.evaluate.models_under_test import list_held_out, read_held_out
from flames_cli.stages.partition.stage import partition
from flames_cli.store.cases import SetInfo
from flames_cli.store.partition import read_partition
from flames_cli.store.workspace import partition_file, partition_folder
from tests.support.datasets import write_noise

MEMBERS = {
    "client_train": [("a", "a", 2), ("b", "b", 2), ("c", "c", 2)],
    "client_test": [("d", "d", 1)],
    "server_test": [("e", "e", 2)],
}


def test_a_test_set_names_the_collection_that_shares_its_patients(tmp_path):
    for modality in ("CT", "MRI"):
        info = SetInfo(f"ward-{modality.lower()}", modality, "liver", 32, 255, collection="ward")
        write_noise(tmp_path / "preprocessed" / f"{info.dataset}.h5", MEMBERS, info)
    write_noise(tmp_path / "preprocessed" / "kits.h5", MEMBERS, SetInfo("kits", "CT", "kidney", 32, 255))
    partition(PartitionConfig(workspace=tmp_path, different_people=True))
    made = read_partition(partition_file(tmp_path))
    clients = {
        one.entry.dataset: read_held_out(one).collections
        for one in list_held_out(partition_folder(tmp_path), made, "client_test")
    }
    assert clients == {"kits": {}, "ward-ct": {"ward-ct": "ward"}, "ward-mri": {"ward-mri": "ward"}}
    by_modality = {
        one.entry.modality: read_held_out(one).collections
        for one in list_held_out(partition_folder(tmp_path), made, "server_test")
    }
    assert by_modality == {"CT": {"ward-ct": "ward"}, "MRI": {"ward-mri": "ward"}}
