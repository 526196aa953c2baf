"""Adapter that makes a segmentation model of any network which maps images to logits.

B batch, C channels, H W pixels.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from flames_cli.errors import FlamesError
from flames_cli.learn.models.base import SegmentationModel


class LogitsModel(SegmentationModel):
    """A network of a plug-in, from images B×in_channels×H×W to logits B×1×H×W, as a segmentation model.

    The names of parameters and of entries of the state dict are those of the network itself, so that files
    of weights of the program that it comes from fit, and so do files that FLAMES writes fit there.
    """

    def __init__(
        self, net: nn.Module, in_channels: int, who: str, min_size: int = 1, channels_last: bool = True
    ) -> None:
        """Adapt a network.

        Args:
            net: the network.
            in_channels: number of channels of its images.
            who: model and plug-in, for messages.
            min_size: smallest H and W; 1 if it is not known.
            channels_last: False if it needs memory in which channels come before rows and columns.
        """
        super().__init__(in_channels, min_size)
        self.net = net
        self.who = who
        self.channels_last = channels_last

    @property
    def network(self) -> nn.Module:
        """The module whose parts have the names of the model's entries."""
        return self.net

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the images themselves: which part of a foreign network encodes is not known."""
        return [x]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits B×1×H×W of images.

        Raises:
            FlamesError: the network returns something else.
        """
        (images,) = features
        logits = self.net(images if self.channels_last else images.contiguous())
        if not isinstance(logits, Tensor):
            raise FlamesError(
                f"{self.who} returns {type(logits).__name__}, expected one tensor of logits B×1×H×W; switch "
                "its other outputs (such as deep supervision) off, or return the finest one alone"
            )
        if logits.ndim != 4 or logits.shape[1] != 1 or logits.shape[2:] != images.shape[2:]:
            raise FlamesError(
                f"{self.who} maps images of shape {_shape(images)} to {_shape(logits)}, expected logits "
                f"{_shape(images[:, :1])}; give it one output channel and the size of its images"
            )
        return logits

    def bottleneck(self, x: Tensor) -> Tensor:
        """Return the last of the smallest feature maps, B×C×h×w float32, of images B×in_channels×H×W.

        Maps of one pixel are left out, since they are the averages of attention over channels.

        Raises:
            FlamesError: the network has no feature map that is smaller than the image, or as `forward`.
        """
        self._check(x)
        maps: list[Tensor] = []

        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.is_floating_point():
                pixels = _area(output)
                if 1 < pixels < _area(x) and (not maps or pixels <= _area(maps[0])):
                    maps[:] = [output]

        hooks: list[RemovableHandle] = [part.register_forward_hook(note) for part in self.net.modules()]
        try:
            self.decode(self.encode(x))
        finally:
            for hook in hooks:
                hook.remove()
        if not maps:
            raise FlamesError(
                f"{self.who} has no feature map B×C×h×w that is smaller than its image, expected one at its "
                "bottleneck; use a model with one"
            )
        return maps[0].float()

    def encoder_entries(self) -> frozenset[str]:
        """Return the names of the entries below the network's attribute `encoder`; none without one."""
        return self.entries_below("encoder")

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the entries by the network's own names; a module around this one gets torch's names."""
        if args or options.get("destination") is not None or options.get("prefix"):
            found: dict[str, Any] = super().state_dict(*args, **options)
            return found
        return self.net.state_dict(**options)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load entries by the network's own names."""
        return self.net.load_state_dict(state_dict, strict=strict, assign=assign)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters by the network's own names."""
        yield from self.net.named_parameters(prefix, recurse, remove_duplicate)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers by the network's own names."""
        yield from self.net.named_buffers(prefix, recurse, remove_duplicate)


def _area(x: Tensor) -> int:
    return x.shape[2] * x.shape[3]


def _shape(x: Tensor) -> str:
    return "×".join(map(str, x.shape))
