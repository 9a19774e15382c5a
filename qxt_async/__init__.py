"""An asyncio-native client for the QXT (企信通) SMS gateway."""

__version__ = "0.1.0"
