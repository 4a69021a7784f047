"""What a result was computed with."""

import platform

import flax
import jax
import jaxlib


def environment() -> dict[str, str]:
    """Versions and devices by name; nothing that tells one machine from another."""
    kinds = [device.device_kind for device in jax.devices()]
    return {
        "Python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "flax": flax.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "platform": jax.default_backend(),
        "devices": ", ".join(f"{kinds.count(k)} × {k}" for k in sorted(set(kinds))),
        "processes": str(jax.process_count()),
    }
