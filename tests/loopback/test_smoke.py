from pathlib import Path
from tests.loopback.trio import running_trio
import asyncio
async def test_one(pki: Path) -> None:
    async with running_trio(pki) as t:
        pass
async def test_two(pki: Path) -> None:
    async with running_trio(pki) as t:
        pass
async def test_insec(pki: Path) -> None:
    async with running_trio(None) as t:
        pass
