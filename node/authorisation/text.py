"""Where things stand in a Cedar text. cedarpy's errors name no place, so refusals find the line and column here.

The text is also bounded here, before cedarpy reads it: its parser overflows the stack of the process (a crash, no
exception) at a few hundred nested brackets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from consortium.errors import LimitError, PolicyError

TEXT_CHARACTERS_MAX: Final = 65_536
STATEMENTS_MAX: Final = 256
STATEMENT_TOKENS_MAX: Final = 2_000
BRACKET_DEPTH_MAX: Final = 32

END_OF_INPUT: Final = "unexpected end of input"  # cedarpy 4.12.2
_AT_A_TOKEN = ("unexpected token", "invalid token")
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)"""
    r"""|(?P<token>"(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|::|==|!=|<=|>=|&&|\|\||.)""",
    re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A token and the offset of its first character in the whole text."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The offset after its last character."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Statement:
    """The tokens of one policy, its semicolon included if it has one."""

    tokens: tuple[Token, ...]

    @property
    def start(self) -> int:
        """The offset of its first token."""
        return self.tokens[0].start

    def source(self, text: str) -> str:
        """Its part of the whole text."""
        return text[self.start : self.tokens[-1].end]


def statements(text: str) -> tuple[Statement, ...]:
    """Splits a policy text into its policies.

    Raises:
        LimitError: the text, a statement or the number of statements is too large.
        PolicyError: brackets are nested too deep.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise LimitError(
            f"The policy has more than {TEXT_CHARACTERS_MAX} characters.", mend="Shorten it or split the dataset."
        )
    found: list[Statement] = []
    tokens: list[Token] = []
    depth = 0
    for match in _TOKEN.finditer(text):
        if match.group("token") is None:
            continue
        token = Token(match.group("token"), match.start())
        depth += (token.text in "([{") - (token.text in ")]}")
        tokens.append(token)
        if depth > BRACKET_DEPTH_MAX:
            raise PolicyError(
                f"Brackets are nested deeper than {BRACKET_DEPTH_MAX}.",
                where=place(text, token.start),
                mend="Split the clause in several, each with its own @id.",
            )
        if token.text == ";" or len(tokens) > STATEMENT_TOKENS_MAX:
            _check_count(text, tokens, found)
            found.append(Statement(tuple(tokens)))
            tokens, depth = [], 0
    if tokens:
        _check_count(text, tokens, found)
        found.append(Statement(tuple(tokens)))
    return tuple(found)


def _check_count(text: str, tokens: list[Token], found: list[Statement]) -> None:
    if len(tokens) > STATEMENT_TOKENS_MAX or len(found) >= STATEMENTS_MAX:
        raise LimitError(
            f"A clause has more than {STATEMENT_TOKENS_MAX} words and signs, or there are more than {STATEMENTS_MAX}.",
            where=place(text, tokens[0].start),
            mend="Split the clause, or merge clauses that say the same.",
        )


def place(text: str, offset: int) -> str:
    """An offset as people count: "line 3, column 7", both from 1."""
    before = text[:offset]
    return f"line {before.count(chr(10)) + 1}, column {offset - (before.rfind(chr(10)) + 1) + 1}"


def syntax_error_offset(text: str, statement: Statement, message: str, parse_error: Callable[[str], str]) -> int:
    """The offset at which a statement stops being Cedar.

    A parser that fails at a token says of every text that ends before it only that the text ends too early, so the
    place is found by bisection over the tokens.

    Args:
        text: the whole text.
        statement: a part of it that does not parse.
        message: the parser's message of the statement.
        parse_error: the parser's message of any text; "" if it parses.
    """
    if message == END_OF_INPUT:
        return statement.tokens[-1].end
    if message.startswith(_AT_A_TOKEN):
        return _failing_token(text, statement, parse_error).start
    return named_offset(statement, message)


def _failing_token(text: str, statement: Statement, parse_error: Callable[[str], str]) -> Token:
    low, high = 0, len(statement.tokens) - 1
    while low < high:
        middle = (low + high) // 2
        if parse_error(text[statement.start : statement.tokens[middle].end]).startswith(_AT_A_TOKEN):
            high = middle
        else:
            low = middle + 1
    return statement.tokens[low]


def named_offset(statement: Statement, message: str) -> int:
    """The offset of what an error message names in backquotes, or else of the statement.

    An attribute is looked for after a dot first: its name may also stand elsewhere in the statement.
    """
    for name in re.findall(r"`([^`]+)`", message):
        last = re.split(r"::|\.", name)[-1]
        wanted = {last, f'"{last}"'}
        places = [index for index, token in enumerate(statement.tokens) if token.text in wanted]
        after_dot = [index for index in places if index and statement.tokens[index - 1].text in (".", "has")]
        if places:
            return statement.tokens[(after_dot or places)[0]].start
    return statement.start
