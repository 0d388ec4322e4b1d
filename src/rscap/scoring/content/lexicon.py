"""The word lists of content errors: things, colours, directions, numbers, and words that deny.

They are rscap's own, written for captions of aerial and satellite images. A change of a list or of the rules in
`claims` changes scores, and so raises VERSION, which every signature names as `content:1`.
"""

from __future__ import annotations

from collections.abc import Mapping

VERSION = "1"

SCENE: Mapping[str, str] = {
    "airport": "airport, airfield, aerodrome",
    "runway": "runway, airstrip, flight strip, taxiway, landing strip",
    "plane": "plane, airplane, aeroplane, aircraft, airliner, jet",
    "terminal": "terminal, terminal building, boarding gate, boarding bridge, jet bridge, boarding port",
    "apron": "apron, tarmac",
    "baseball field": "baseball field, baseball diamond, baseball court, baseball ground, diamond field",
    "basketball court": "basketball court, basketball field",
    "tennis court": "tennis court, tennis field",
    "football field": "football field, soccer field, football pitch, soccer pitch, football court, football ground",
    "golf course": "golf course, golf field, golf green",
    "playground": "playground, sports field, sport field, athletic field, sports ground, sport ground, track field, "
    "track and field, ground track field, running track, racetrack, athletics track",
    "stadium": "stadium, arena, gymnasium, gym, bird's nest",
    "bunker": "bunker, sand trap",
    "beach": "beach, seaside",
    "sea": "sea, ocean, seawater, gulf, bay",
    "wave": "wave, ripple, spray, foam, surf",
    "island": "island, islet, isle",
    "coast": "coast, coastline, shore, shoreline, seashore, waterfront",
    "harbor": "harbor, harbour, port, dock, wharf, pier, marina, jetty, quay, berth",
    "boat": "boat, ship, yacht, vessel, sailboat, speedboat, ferry, cargo ship",
    "river": "river, stream, creek, canal",
    "lake": "lake",
    "pond": "pond",
    "pool": "swimming pool, pool",
    "wetland": "wetland, swamp, marsh, mangrove",
    "water": "water, waters, body of water",
    "bridge": "bridge",
    "overpass": "viaduct, overpass, flyover, interchange, elevated road",
    "road": "road, street, highway, freeway, motorway, expressway, avenue, lane, roadway, roadside, driveway, alley",
    "path": "path, pathway, footpath, trail, sidewalk",
    "intersection": "intersection, crossroad, crossroads, crossing, road junction, junction",
    "roundabout": "roundabout, traffic circle",
    "railway": "railway, railroad, rail, railway track, railway line, train track",
    "station": "railway station, train station, station, bus station",
    "train": "train",
    "parking lot": "parking lot, parking space, parking area, parking ground, car park, parking",
    "car": "car, vehicle, automobile, truck, bus, van, lorry",
    "container": "container, containter, cargo",
    "house": "house, home, cottage, residence, bungalow, dwelling",
    "villa": "villa, mansion",
    "mobile home": "mobile home, mobile home park, trailer, trailer park",
    "building": "building, edifice, skyscraper, tower, apartment, block of flats, workshop, structure, architecture",
    "residential area": "residential area, residential district, residential zone, residential region, residential, "
    "neighborhood, neighbourhood, community, living area",
    "industrial area": "industrial area, industrial district, industrial zone, industrial region, industrial, "
    "factory, industry, industrial plant, plant area",
    "commercial area": "commercial area, commercial district, commercial zone, commercial region, commercial, "
    "business district, business area, downtown",
    "school": "school, campus, teaching building, college, university",
    "church": "church, cathedral, chapel",
    "palace": "palace, castle",
    "resort": "resort, hotel",
    "park": "park, garden",
    "plaza": "plaza, town square, city square",
    "city": "city, town, village, urban area",
    "tank": "storage tank, tank, oil tank, jar, oil drum",
    "power station": "power station, power plant, thermal power station, cooling tower, chimney",
    "cloud": "cloud",
    "snow": "snow, ice, glacier, snowberg, iceberg, sea ice",
    "mountain": "mountain, hill, ridge, peak, mound, slope, hillside, mountainside",
    "valley": "valley, gully",
    "desert": "desert, dune, sand dune",
    "rock": "rock, stone, reef, cliff",
    "forest": "forest, wood, woods, woodland, rainforest, jungle, grove",
    "tree": "tree",
    "plant": "plant, vegetation, shrub, bush, weed, greenery, green belt, greenbelt, green plant, green space, "
    "green area, green land, undergrowth, green patch",
    "chaparral": "chaparral",
    "grass": "grass, lawn, meadow, grassland, turf, pasture, grassy area, grass land, green field",
    "farmland": "farmland, cropland, farm, crop, fields, rectangular farmland, circular farmland, terrace, "
    "terraced field, farm land, wheat",
    "bare land": "bare land, bareland, bare ground, wasteland, barren land, wilderness, bare area, open space, "
    "open ground, clearing, vacant land, bare soil, dirt",
    "sand": "sand, sands",
    "people": "people, person, pedestrian, tourist, spectator, man, crowd",
}
"""Things by their name here: the singular of each word that means it. A caption that names one makes a claim."""

PARTS = (
    "roof, field, ground, land, area, line, mark, court, circle, square, fence, wall, track, soil, bank, side, "
    "marking, ceiling, umbrella, stripe, ring, border, edge"
)
"""Things that have colours and numbers but are too common or vague for their absence in references to mean much."""

IS_SHOWN_BY: Mapping[str, str] = {
    "airport": "runway, terminal, plane, apron",
    "apron": "airport, runway, parking lot, bare land, plane",
    "runway": "airport, apron",
    "terminal": "airport",
    "playground": "football field, baseball field, basketball court, tennis court, stadium",
    "football field": "playground, stadium",
    "stadium": "playground, football field, baseball field",
    "golf course": "bunker",
    "beach": "sand, coast",
    "sand": "beach, bunker, desert",
    "sea": "beach, wave, coast, water",
    "wave": "sea, beach",
    "coast": "beach, sea, island, harbor",
    "harbor": "boat",
    "river": "water",
    "lake": "pond, water",
    "pond": "lake, pool, water",
    "pool": "pond",
    "wetland": "river, lake, pond, water",
    "water": "sea, river, lake, pond, pool, wetland, harbor, wave, beach",
    "bridge": "overpass",
    "overpass": "bridge, intersection, road",
    "road": "intersection, overpass, roundabout, path, bridge, car",
    "path": "road",
    "intersection": "overpass, roundabout, road",
    "railway": "station, train",
    "station": "railway",
    "train": "railway, station",
    "parking lot": "car",
    "house": "villa, mobile home, residential area, building",
    "villa": "house, residential area",
    "mobile home": "house",
    "building": "house, villa, mobile home, residential area, industrial area, commercial area, school, church, "
    "palace, resort, terminal, station, stadium, city",
    "residential area": "house, villa, mobile home, building",
    "industrial area": "tank, power station, building",
    "commercial area": "building, city",
    "city": "residential area, commercial area, building",
    "power station": "industrial area",
    "park": "plaza",
    "plaza": "park",
    "mountain": "valley, snow",
    "valley": "mountain",
    "desert": "sand",
    "forest": "tree",
    "tree": "forest, plant",
    "plant": "tree, forest, grass, chaparral, farmland, wetland, park",
    "chaparral": "plant",
    "grass": "plant, park, golf course, football field, baseball field, farmland",
    "farmland": "grass, bare land",
    "bare land": "desert, sand, farmland, bunker",
    "rock": "mountain",
}
"""By thing, what else in a reference bears a claim of it out: another name, a kind of it, or what it cannot be without.

That a thing is likely near another (a parking lot near cars) counts only where captions of one image exchange the two.
"""

COLOURS: Mapping[str, str] = {
    "red": "red, reddish, crimson, maroon",
    "orange": "orange",
    "yellow": "yellow, yellowish, golden, gold",
    "green": "green, greenish, emerald, jade, verdant, turquoise, cyan",
    "blue": "blue, bluish, azure, navy, turquoise, cyan",
    "purple": "purple, violet",
    "pink": "pink",
    "brown": "brown, brownish, khaki, tan, beige, coffee",
    "pale": "khaki, beige, cream, sandy, tan, yellow, yellowish",
    "white": "white, whitish, cream",
    "black": "black",
    "grey": "grey, gray, greyish, grayish, silver",
}
"""Colours: a word may belong to two, and two words contradict each other if they share none."""

NUMBERS: Mapping[str, int] = {
    "one": 1, "single": 1, "two": 2, "pair": 2, "couple": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15,
    "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40,
}  # fmt: skip
SEVERAL = (
    "several, some, many, few, lots, numerous, various, plenty, dozens, multiple, both, all, rows, lines, most, "
    "countless, different, clusters, groups, number, series, lot, these, those"
)
"""Words of a number above 1 that they do not tell."""

UNITS = "piece, plot, patch, block, part, tract, stretch, pair, couple, kind, type, strip, section, portion"
"""Words between a number and its thing: "two pieces of farmland"."""

DENIALS = "no, not, without, never, neither, nor, n't, none, lacks, lacking"
"""What they reach is denied, up to the end of the clause."""
WEAK = "many, much, only, far, very, so, longer, too, just, same, all, every, completely, fully, regular, high, wide"
"""Behind "not" or "no", these leave the thing itself standing: "not many trees" are some."""

CLAUSE_ENDS = "but, while, although, however, with, which, that, where, there, is, are, was, were, has, have, whose"
"""Where a denial ends, besides punctuation."""
DETERMINERS = "a, an, the, some, several, many, one, two, three, four, five, this, its, their, another, other, each"
"""Behind "and" or ",", these begin something that a denial before them does not reach."""

STOPS = (
    "in, on, at, of, by, near, beside, next, to, with, between, among, around, through, over, under, along, across, "
    "behind, into, from, for, is, are, was, were, be, been, has, have, there, it, this, which, that, while, where, "
    "surrounded, parked, docked, stopped, planted, built, arranged, scattered, covered, divided, located, sits, lies, "
    "stands, goes, go, passes, surround, surrounds, cover, covers, grow, growing, flows, stand, stands, contains, "
    "alongside, besides, beneath, above, below, inside, outside, like, as, but, or, here, can, be, seen, a, an, the"
)
"""Words that are no adjectives: where the words that describe a thing begin."""

DIRECTIONS: Mapping[str, str] = {
    "left": "across", "right": "across",
    "top": "up", "upper": "up", "bottom": "up", "lower": "up",
    "north": "north", "northern": "north", "south": "north", "southern": "north",
    "east": "east", "eastern": "east", "west": "east", "western": "east",
}  # fmt: skip
"""Words of direction by their axis."""
SAME_DIRECTION: Mapping[str, str] = {
    "upper": "top", "lower": "bottom", "northern": "north", "southern": "south", "eastern": "east", "western": "west",
}  # fmt: skip
DIRECTION_BEFORE = "the, upper, lower, top, bottom, its, on, to, and, at, far"
DIRECTION_BEHIND = "side, corner, part, half, edge, and, hand, left, right, end, bank, portion, section, of"
"""A word such as "left" or "top" is a direction between these: "the left side", "the upper right corner"."""
NO_DIRECTION = "angle, angles, next, behind, turn, away, over, away, amount"
"""Behind "right" or "left", these make it none: "right angles", "right next to"."""
