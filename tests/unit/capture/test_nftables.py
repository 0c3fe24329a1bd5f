from __future__ import annotations

import pytest

from tunneler.capture import libnftables
from tunneler.capture.nftables import NftablesBackend
from tunneler.errors import CaptureError, CaptureUnavailable


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Operation not permitted; it takes root", CaptureError),
        ("Operation not supported", CaptureUnavailable),
    ],
)
def test_a_kernel_without_nf_tables_is_told_from_one_that_forbids_it(
    monkeypatch: pytest.MonkeyPatch, said: str, kind: type[CaptureError]
) -> None:
    def refused(_: object) -> None:
        raise CaptureError(f"nftables refused: cache initialization failed: {said}")

    monkeypatch.setattr(libnftables, "run", refused)
    with pytest.raises(CaptureError, match=said) as caught:
        NftablesBackend().probe()
    assert type(caught.value) is kind
