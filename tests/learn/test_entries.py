import pytest

from flames_cli.errors import FlamesError
from flames_cli.learn.models import build_model
from flames_cli.learn.models.entries import describe_entries


def test_parameters_buffers_and_batchnorm_are_distinguished():
    model = build_model("unet", seed=1, base_channels=2, depth=1)
    entries = describe_entries(model)
    assert entries.trainable == {name for name, _ in model.named_parameters()}
    assert {name.rpartition(".")[2] for name in entries.norm} == {
        *("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    assert "encoders.0.1.running_mean" in entries.norm
    assert "encoders.0.0.weight" not in entries.norm
    assert (entries.shared, entries.style) == (None, frozenset())


def test_sharing_content_leaves_style_out():
    model = build_model("sdnet", seed=1, base_channels=2, depth=1)
    entries = describe_entries(model, "content")
    assert entries.shared == set(model.state_dict()) - model.style_entries()
    assert entries.trainable <= entries.shared
    assert entries.style == frozenset()


def test_lent_style_is_the_renderer():
    model = build_model("sdnet", seed=1, base_channels=2, depth=1)
    assert describe_entries(model, lend_style=True).style == model.renderer_entries()


@pytest.mark.parametrize(
    ("options", "what"),
    [({"share": "content"}, "share its content"), ({"lend_style": True}, "lend its style")],
)
def test_plain_models_have_no_style(options, what):
    with pytest.raises(FlamesError, match=f"cannot {what}.*use --model sd-utnet or sdnet"):
        describe_entries(build_model("unet", seed=1, base_channels=2, depth=1), **options)
