"""Configurations of components: those that ship with us, and building networks from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, cast

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from safelight.errors import UnreadableFile

Config = Mapping[str, Any]


def shipped(family: str) -> dict[str, dict[str, Any]]:
    """The components' configurations of a family's published models: unet, vae, text_encoder."""
    text = (files("safelight") / f"data/configs/{family}.json").read_text(encoding="utf-8")
    return cast(dict[str, dict[str, Any]], json.loads(text))


def unet(config: Config) -> nn.Module:
    """The UNet of a configuration. UnreadableFile where it describes none."""
    return _built("unet", lambda: cast(Any, UNet2DConditionModel).from_config(dict(config)))


def autoencoder(config: Config) -> nn.Module:
    """The autoencoder of a configuration. UnreadableFile where it describes none."""
    return _built("vae", lambda: cast(Any, AutoencoderKL).from_config(dict(config)))


def clip_text(config: Config) -> nn.Module:
    """The text encoder of a configuration. UnreadableFile where it describes none."""
    return _built("text_encoder", lambda: CLIPTextModel(CLIPTextConfig.from_dict(dict(config))))


def _built(component: str, build: Callable[[], Any]) -> nn.Module:
    try:
        return cast(nn.Module, build())
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise UnreadableFile(
            f"The configuration of the {component} describes no network: {error}.", "Save the model again."
        ) from error
