"""Which waiting prompts begin with the same blocks as another that is still to be computed?

vLLM's block hashes are chained: two prompts with the same n-th hash have the same first n blocks.
So an index of the hashes of those that wait or are being computed finds what a newcomer shares with
them by binary search. What has been computed is the prefix cache's to know, not ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_MOST_BLOCKS = 2048  # of a prompt that are looked at: bounds what an arrival costs


@dataclass(slots=True)
class _Member:
    """owned: hashes that stand in the index for it. depth: most blocks shared with another."""

    hashes: Sequence[bytes]
    owned: list[bytes]
    follows: str | None
    depth: int
    followers: dict[str, int] = field(default_factory=dict)


class SharedPrefixes:
    """A forest: each follows the one that came before it with the longest common beginning."""

    def __init__(self) -> None:
        self._owner_of: dict[bytes, str] = {}
        self._members: dict[str, _Member] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._members

    def arrived(self, request_id: str, hashes: Sequence[bytes]) -> str | None:
        """A newcomer and the hashes of its prompt; which request does it follow?"""
        hashes = hashes[:_MOST_BLOCKS]
        depth, high = 0, len(hashes)
        while depth < high:
            middle = (depth + high) // 2
            if hashes[middle] in self._owner_of:
                depth = middle + 1
            else:
                high = middle
        leader = self._owner_of[hashes[depth - 1]] if depth else None
        owned = list(hashes[depth:])
        self._owner_of.update(dict.fromkeys(owned, request_id))
        self._members[request_id] = _Member(hashes, owned, leader, depth)
        if leader is not None:
            theirs = self._members[leader]
            theirs.followers[request_id] = depth
            theirs.depth = max(theirs.depth, depth)
        return leader

    def shared(self, request_id: str) -> tuple[int, int]:
        """(blocks shared with another, a number that all with this beginning have in common)."""
        member = self._members[request_id]
        return member.depth, _number(member, member.depth)

    def computing(self, request_id: str) -> set[int]:
        """Numbers of the beginnings for which others wait while this one is being computed."""
        member = self._members[request_id]
        return {_number(member, depth) for depth in set(member.followers.values())}

    def gone(self, request_id: str) -> list[str]:
        """It has been computed or has left; the deepest of its followers takes its place. Returns
        them all."""
        member = self._members.pop(request_id, None)
        if member is None:
            return []
        for block in member.owned:
            del self._owner_of[block]
        before = None if member.follows is None else self._members[member.follows]
        rank = 0 if before is None else before.followers.pop(request_id)
        followers = list(member.followers)
        if followers:
            heir = max(followers, key=member.followers.__getitem__)
            self._inherit(heir, member)
            if before is not None:
                before.followers[heir] = rank
        return followers

    def _inherit(self, heir: str, member: _Member) -> None:
        depth, mine = member.followers.pop(heir), self._members[heir]
        for block in mine.hashes[:depth]:
            if block not in self._owner_of:
                self._owner_of[block] = heir
                mine.owned.append(block)
        mine.follows = member.follows
        for follower in member.followers:
            self._members[follower].follows = heir
        mine.followers |= member.followers


def _number(member: _Member, depth: int) -> int:
    """48 bits: exact in a column of floats, never 0."""
    return int.from_bytes(member.hashes[depth - 1][:6], "big") | 1 if depth else 0
