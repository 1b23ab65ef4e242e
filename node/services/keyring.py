"""The ledger keys that a node holds, of which it signs with the one that the log holds to be in force."""

from __future__ import annotations

from collections.abc import Iterable

from consortium.errors import ConfigError
from consortium.keys import Signer
from node.services.mirror import Mirror


class KeyRing:
    """A Signer for one member. While a key is rotated it holds two, and changes over when this node's copy does."""

    def __init__(self, mirror: Mirror, member: bytes, keys: Iterable[Signer]) -> None:
        """Args: `member` is the id of the member's first key, which names it; of `keys`, the first is the present."""
        self._mirror = mirror
        self.member = member
        self._keys: dict[bytes, Signer] = {}
        for key in keys:
            self.add(key)

    def add(self, key: Signer) -> None:
        """Takes a key that will be in force, or perhaps is."""
        self._keys[key.public_key] = key

    @property
    def current(self) -> Signer:
        """The key in force; the first one as long as the member is not on the ledger.

        Raises:
            ConfigError: the ledger has another key for the member than those that are here.
        """
        public_key = self._mirror.state.public_key(self.member)
        if public_key is None:
            return next(iter(self._keys.values()))
        if public_key not in self._keys:
            raise ConfigError(
                "The ledger holds another key for this member than this node.",
                where=self.member.hex(),
                mend="Restore the key file, or have the members vote a new key: 'consortium member new-key'.",
            )
        return self._keys[public_key]

    @property
    def public_key(self) -> bytes:
        return self.current.public_key

    @property
    def key_id(self) -> bytes:
        return self.current.key_id

    def sign(self, message: bytes) -> bytes:
        return self.current.sign(message)
