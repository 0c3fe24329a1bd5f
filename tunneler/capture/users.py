"""System users by name or number."""

from __future__ import annotations

import pwd

from tunneler.errors import NoSuchUser

LARGEST_UID = 2**32 - 2
"""The value above it, -1, means "no user" to the kernel (credentials(7), chown(2))."""


def uid_of(user: str) -> int:
    """The number of a system user, given by name or by number.

    Raises:
        NoSuchUser: there is no user of that name, or no such number can be.
    """
    if user.isascii() and user.isdigit():
        uid = int(user)
        if uid > LARGEST_UID:
            raise NoSuchUser(f"capture.user: {user} is larger than any user's number")
        return uid
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise NoSuchUser(
            f"capture.user: this host has no user {user!r}; create it or correct the name"
        ) from None
