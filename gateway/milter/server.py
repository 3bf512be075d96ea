"""Serving MTAs on a socket that somebody else bound, and letting them go again."""

import asyncio
import socket
from collections.abc import Callable

from gateway.hearing.service import Service
from gateway.milter.crossing import Crossing, NoAnswer
from gateway.milter.library import Library
from gateway.milter.link import Link

BACKLOG = 512
# Seconds that a step may take beyond the deadline, by policies that compute: then the MTA hears that
# nobody answers. deploy/postfix/milter.cf has Postfix wait longer than that.
SLACK = 15.0
# Seconds in which a connection that was accepted has said its first word.
_SETTLING = 0.5
_LOOK_INTERVAL = 0.1


class Server:
    """One listener of one process, and the only one in it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._links: set[Link] = set()
        self._is_leaving = False

    async def start(self, bound: socket.socket) -> None:
        """Serve MTAs from now on. Raises OSError."""
        self._crossing = Crossing(asyncio.get_running_loop(), self._service.deadline + SLACK)
        self._library = Library(self._open_link, self._close_link, self._service.speak == "connect")
        if bound.family != socket.AF_UNIX:
            # A change and the answer behind it are two packets; accepted connections must not hold back one.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._library.start(bound, BACKLOG)

    # What libmilter's threads call.

    def _open_link(self, keeps_blanks: bool) -> Link:
        link = Link(self._service, self._crossing, keeps_blanks)
        link.is_leaving = self._is_leaving
        self._links.add(link)
        return link

    def _close_link(self, link: Link) -> None:
        self._links.discard(link)
        try:
            link.close()
        except NoAnswer:
            # Nobody is left to be told.
            return

    # The end

    async def retire(self, patience: float) -> None:
        """Take no more connections; those that are open go on for `patience` seconds.

        After that a new transaction hears 421. Returns when none is left, or as many seconds later.
        """
        await self._accept_no_more()
        if not await self._come_to(lambda: not self._links, patience):
            self._leave()
            await self._come_to(lambda: not self._links, patience)

    async def drain(self, grace: float) -> None:
        """Take no more connections and no more transactions: those hear 421.

        What has begun may end within `grace` seconds; an answer that is being found then is waited for.
        """
        self._leave()
        await self._accept_no_more()
        await self._come_to(self._is_idle, grace)
        await self._come_to(self._is_silent, self._service.deadline)
        # What is said last goes out behind our back.
        await asyncio.sleep(_SETTLING)

    async def _accept_no_more(self) -> None:
        self._library.accept_no_more()
        await asyncio.sleep(_SETTLING)

    def _leave(self) -> None:
        self._is_leaving = True
        for link in tuple(self._links):
            link.is_leaving = True

    def _is_idle(self) -> bool:
        return all(link.is_idle for link in tuple(self._links))

    def _is_silent(self) -> bool:
        return not any(link.is_answering for link in tuple(self._links))

    async def _come_to(self, end: Callable[[], bool], within: float) -> bool:
        """Wait for it, so many seconds at most; whether it came."""
        until = asyncio.get_running_loop().time() + within
        while not end():
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(_LOOK_INTERVAL)
        return True
