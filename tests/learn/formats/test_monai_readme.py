from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.learn.formats.monai_bundle import write_readme
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Training


def readme_of(*rules):
    given = ModelInput("MRI", ("brain",), 32, intensities=rules)
    text = write_readme(ModelInfo("mri", Architecture("unet"), given, Training("file")))
    return " ".join(text.split())


def test_the_readme_states_the_rule_and_whether_the_model_does():
    unknown = "The model does not state the rule of its training images"
    assert unknown in readme_of()
    assert "0 to the 95th percentile of all voxels" in readme_of()
    assert "window 0 to 50." in readme_of(IntensityRule(window=(0, 50)))
    assert unknown not in readme_of(IntensityRule(window=(0, 50)))
