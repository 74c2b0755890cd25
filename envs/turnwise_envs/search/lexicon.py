"""The fixed words of the search world: names by type, relations, section words.

`world` draws from it; the tiny model's tokenizer makes one token of every word in it. The words never change
within a version of the environment: a shipped tokenizer and stored episodes depend on them.
It does not promise that a name means anything outside this world (its Oslo is not Norway's).
"""

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: Final[dict[str, tuple[str, ...]]] = {
    "person": _words(
        """Vera Boris Clara Dmitri Elena Felix Greta Hugo Irene Jonas Karin Leo Mira Nils Olga Pavel Quinn Rosa
        Stefan Tilda Ulrich Viola Walter Xenia Yara Zeno Agnes Bruno Cora Doris Edgar Fiona Gideon Hazel Ivan Judith
        Kurt Linda Magnus Nora Oscar Paula Rufus Sonja Theo Ursula Victor Wanda Yusuf Zelda Anton Bella Cyril Daphne
        Ernst Flora Gustav Hilda Igor Jasper"""
    ),
    "company": _words(
        """Acme Bolt Cobalt Dynamo Everest Fulcrum Granite Helix Ironwood Juniper Keystone Lattice Meridian Northwind
        Obelisk Pinnacle Quarry Redwood Summit Talisman Umbra Vertex Westgate Xylem Yardarm Zenith Anvil Beacon
        Cascade Drumlin Ember Foundry Gantry Harbor Inkwell Jigsaw Kestrel Lodestar Mosaic Nimbus"""
    ),
    "product": _words(
        """Aerolite Brightpad Coolbox Dustpan Echophone Fizzer Glowlamp Heatrod Inkjet Jetpack Kitestring Lumicam
        Microfan Nutcracker Omnidrill Pocketsaw Quickmop Rainmeter Solarcup Toastbot Ultrabike Vaporizer Wristwatch
        Xenolamp Yogamat Zipcase Airbrush Breadmaker Corkscrew Deskclock Eggtimer Flashcube Gearbox Hairdryer
        Icemaker Juicer Kneepad Lantern Matchbox Notepad"""
    ),
    "place": _words(
        """Oslo Bergen Cairo Dover Exeter Florence Geneva Havana Innsbruck Jakarta Kyoto Lisbon Madrid Nairobi Odessa
        Prague Quito Riga Seville Tunis Utrecht Valencia Warsaw Xanten York Zagreb Athens Bogota Cordoba Dublin Essen
        Ghent Hamburg Izmir Jena Krakow Lima Malmo Naples Oxford"""
    ),
}
"""Names by entity type; no name occurs twice."""

RELATIONS: Final[dict[str, dict[str, str]]] = {
    "person": {"birthplace": "place", "employer": "company", "mentor": "person", "residence": "place"},
    "company": {"founder": "person", "headquarters": "place", "flagship": "product", "rival": "company"},
    "product": {"maker": "company", "designer": "person", "origin": "place", "successor": "product"},
    "place": {"mayor": "person", "twin": "place", "industry": "company", "delicacy": "product"},
}
"""Subject type to its relations, each with the type of its value; a relation belongs to one subject type only."""

SECTIONS: Final[tuple[str, ...]] = (
    "notes",
    "archive",
    "ledger",
    "almanac",
    "gazette",
    "chronicle",
    "register",
    "journal",
)
"""Second words of page titles."""


def lexicon_words() -> list[str]:
    """List every word of the lexicon once: types, names, relations, sections."""
    names = [name for typed in NAMES.values() for name in typed]
    relations = [relation for typed in RELATIONS.values() for relation in typed]
    return [*NAMES, *names, *relations, *SECTIONS]
