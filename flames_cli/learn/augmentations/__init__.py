"""The registry of augmentations of intensities. Its names are available without importing torch."""

AUGMENTATIONS = {
    "gamma": "flames_cli.learn.augmentations.intensities:change_gamma",
    "blur": "flames_cli.learn.augmentations.intensities:blur",
    "noise": "flames_cli.learn.augmentations.intensities:add_noise",
    "bias-field": "flames_cli.learn.augmentations.intensities:multiply_by_bias_field",
}
"""Module and function of each augmentation."""
