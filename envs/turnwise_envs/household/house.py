"""A room and what is in it: which commands can be carried out, what they change, what is seen then.

Names are a kind and a number, `mug 1`. Nothing is drawn here; equal commands lead equal rooms to equal states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from turnwise.errors import InvalidAction
from turnwise_envs.household.lexicon import FORMS, LAMP, LIT, NOTHING, OPENABLE, TREATABLE, TREATMENTS

HAND = "hand"
"""The place of what is carried."""

_OPPOSITE = {"hot": "cool", "cool": "hot"}


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    verb: str  # a key of `FORMS`
    thing: str = ""
    place: str = ""

    def __str__(self) -> str:
        """Spell it."""
        return FORMS[self.verb].replace("THING", self.thing).replace("PLACE", self.place)


def read_command(text: str) -> Command:
    """Return the command that a text spells; InvalidAction that says how commands are written."""
    words = text.lower().rstrip(" .\n").split()
    match words:
        case ["look" | "inventory" as verb]:
            return Command(verb)
        case ["go", "to", kind, number] | ["open" | "close", kind, number]:
            return Command(words[0], place=f"{kind} {number}")
        case ["use", kind, number]:
            return Command("use", f"{kind} {number}")
        case (
            ["take" as verb, kind, number, "from", *place]
            | ["put" as verb, kind, number, "in" | "on" | "in/on", *place]
            | ["clean" | "heat" | "cool" as verb, kind, number, "with", *place]
        ) if len(place) == 2:
            return Command(verb, f"{kind} {number}", " ".join(place))
    if words and words[0] in FORMS:
        raise InvalidAction(f"expected {FORMS[words[0]]}")
    raise InvalidAction(f"unknown command {' '.join(words)[:20]}; expected one of {', '.join(FORMS)}")


def kind_of(name: str) -> str:
    """Return the kind of a thing or a receptacle."""
    return name.partition(" ")[0]


@dataclass(kw_only=True, slots=True)
class House:
    """The state of a room, and what of it was seen."""

    receptacles: tuple[str, ...]
    places: dict[str, str]  # where each thing is: a receptacle, or `HAND`
    at: str = ""  # the receptacle that one stands at; none at first
    held: str = ""  # the thing in the hand
    opened: set[str] = field(default_factory=set)  # receptacles
    states: set[tuple[str, str]] = field(default_factory=set)  # things that are clean, hot, cool, or were held in light
    searched: set[str] = field(default_factory=set)  # receptacles whose inside was seen
    seen: set[str] = field(default_factory=set)  # things

    def copy(self) -> House:
        """Return a house that may be changed by itself."""
        return replace(
            self,
            places=dict(self.places),
            opened=set(self.opened),
            states=set(self.states),
            searched=set(self.searched),
            seen=set(self.seen),
        )

    def known(self) -> House:
        """Return the house as it would be if there were nothing but what was seen."""
        house = self.copy()
        house.places = {thing: place for thing, place in self.places.items() if thing in self.seen}
        return house

    def key(self) -> str:
        """Return a digest that is equal for equal states, what was seen included."""
        sets = [sorted(item) for item in (self.places.items(), self.opened, self.states, self.searched)]
        return blake2b(repr((self.at, sets)).encode(), digest_size=8).hexdigest()

    def is_closed(self, place: str) -> bool:
        """Whether a receptacle must be opened first."""
        return kind_of(place) in OPENABLE and place not in self.opened

    def here(self) -> list[str]:
        """Return the things that can be reached."""
        return [] if self.is_closed(self.at) else [thing for thing, place in self.places.items() if place == self.at]

    def allows(self, command: Command) -> bool:
        """Whether a command can be carried out."""
        verb, thing, place = command.verb, command.thing, command.place
        if verb == "go":
            return place in self.receptacles and place != self.at
        if verb == "use":
            return kind_of(thing) == LAMP and thing in self.here()
        if verb in ("look", "inventory"):
            return True
        if place != self.at:
            return False
        if verb in ("open", "close"):
            return kind_of(place) in OPENABLE and self.is_closed(place) == (verb == "open")
        if verb == "take":
            return not self.held and thing in self.here() and kind_of(thing) != LAMP
        if not thing or thing != self.held:
            return False
        if verb == "put":
            return not self.is_closed(place)
        return kind_of(place) == TREATMENTS[verb][0] and kind_of(thing) in TREATABLE[verb]

    def admissible(self) -> list[Command]:
        """Return all commands that can be carried out."""
        return [command for command in self._thinkable() if self.allows(command)]

    def do(self, command: Command) -> str:
        """Carry out a command and return what is seen; `NOTHING`, and no change, if it cannot be."""
        if not self.allows(command):
            return NOTHING
        verb, thing, place = command.verb, command.thing, command.place
        match verb:
            case "go":
                self.at = place
                return f"You arrive at {place}. {self._inside()}"
            case "open":
                self.opened.add(place)
                return f"You open the {place}. {self._inside()}"
            case "close":
                self.opened.remove(place)
                return f"You close the {place}."
            case "take":
                self.places[thing], self.held = HAND, thing
                return f"You take the {thing} from the {place}."
            case "put":
                self.places[thing], self.held = place, ""
                return f"You put the {thing} in the {place}."
            case "use":
                self.states |= {(self.held, LIT)} if self.held else set()
                return f"You turn on the {thing}."
            case "look":
                around = f"You see {', '.join(self.receptacles)}."
                return f"You are at {self.at}. {self._inside()}" if self.at else around
            case "inventory":
                return f"You carry {self.held or 'nothing'}."
        state = TREATMENTS[verb][1]
        self.states -= {(thing, _OPPOSITE.get(state, ""))}
        self.states.add((thing, state))
        return f"You {verb} the {thing} with the {place}."

    def _inside(self) -> str:
        if self.is_closed(self.at):
            return "It is closed."
        things = self.here()
        self.searched.add(self.at)
        self.seen.update(things)
        return f"You see {', '.join(things) or 'nothing'}."

    def _thinkable(self) -> Iterator[Command]:
        yield from (Command("go", place=place) for place in self.receptacles)
        yield from (Command(verb, place=self.at) for verb in ("open", "close"))
        for thing in self.here():
            yield from (Command("take", thing, self.at), Command("use", thing))
        yield from (Command(verb, self.held, self.at) for verb in ("put", *TREATMENTS))
        yield from (Command("look"), Command("inventory"))
