import nibabel as nib
import numpy as np
import pytest

from flames_cli.core.rng import derive_rng
from tests.support.cases import check_manifest

VOXELS = derive_rng(0, "inspection").integers(1, 900, (24, 20, 5))


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", "<i4", "<f4", ">f4", "<f8"])
def test_a_copy_of_a_volume_in_another_type_or_byte_order_is_found(dtype, tmp_path):
    mask = np.zeros(VOXELS.shape, np.uint8)
    mask[5:12, 5:12, 2] = 1
    rows = ["image,mask,patient_id,modality,organ"]
    for number, (voxels, stored) in enumerate([(VOXELS, "<i2"), (VOXELS, dtype), (VOXELS[::-1], "<i2")]):
        header = nib.Nifti1Header(endianness=stored[0])
        header.set_data_dtype(np.dtype(stored))
        placed = np.roll(mask, 2 * number, axis=0)
        nib.save(nib.Nifti1Image(voxels.astype(stored), np.eye(4), header), tmp_path / f"{number}.nii")
        nib.save(nib.Nifti1Image(placed, np.eye(4)), tmp_path / f"{number}_m.nii")
        rows.append(f"{number}.nii,{number}_m.nii,P{number},MRI,brain")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    checked = check_manifest(tmp_path / "manifest.csv", tmp_path / "work", size=24)
    assert checked.codes["copies-across-patients"] == "problem"
    assert "0.nii = 1.nii (P0 and P1, equal pixel for pixel" in checked.text_of("copies-across-patients")
    assert "2.nii" not in checked.text_of("copies-across-patients")
