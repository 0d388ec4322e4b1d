"""Words that the nano tokenizer's training text includes, so that remote-sensing captions come out in few pieces.

Written from general knowledge of English and of overhead imagery, not drawn from any data set's captions.
"""

from __future__ import annotations

_FUNCTION = """
a an the this that these those it its they them their there here he she we you i his her our your who which what where
when why how whose and or but nor so yet for if then else than as while because since until unless although though
whether both either neither of in on at by to from with without within into onto upon over under above below beneath
underneath beside besides between among amongst around about across along alongside against through throughout toward
towards behind before after beyond near next past outside inside off out up down away apart together opposite via per
like unlike except despite during is are was were be been being am has have had having do does did done can could may
might must shall should will would not no none nothing only just also too very quite rather almost nearly mostly
mainly partly fully entirely completely slightly highly some any many much more most few fewer less least several
various numerous plenty lot lots bit all each every other others another same such own half whole single double triple
pair couple dozen dozens hundred hundreds first second third fourth last now still already always often sometimes
never again even ever once twice
"""

_NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety thousand 0 1 2 3 4 5 6 7 8 9 10 12 20
"""

_COLOURS = """
white black gray grey red blue green brown yellow orange purple pink golden silver beige khaki tan cream ivory maroon
cyan turquoise teal emerald crimson scarlet rust rusty ochre olive azure navy violet amber bronze sandy earthy
greenish bluish reddish yellowish brownish grayish whitish blackish dark light deep pale bright dull vivid faded muddy
clear murky transparent colorful colourful colored coloured color colour colors colours shade tone hue
"""

_SHAPES = """
round circular square rectangular rectangle rectangles triangular triangle triangles oval elliptical ellipse curved
curving curve curves straight winding twisting bent bending crooked zigzag spiral crescent semicircular semicircle
polygon polygonal hexagonal octagonal trapezoidal diamond cross crossed crossing ring rings circle circles arc arched
arch fan line lines linear fans close row rows column columns grid block blocks strip strips stripe stripes striped
band bands belt belts patch patches piece pieces plot plots area areas zone zones region regions section sections part
parts side sides edge edges corner corners center centre central middle core border borders boundary boundaries margin
top bottom left right upper lower front back end ends north south east west northern southern eastern western
northeast northwest southeast southwest shape shapes shaped form forms formed pattern patterns layout size sizes sized
length width long short wide narrow broad thin thick large small big little tiny huge giant tall low high flat steep
deep shallow medium similar different regular irregular irregularly regularly symmetrical parallel perpendicular
vertical horizontal diagonal oblique uneven even smooth rough rugged bumpy sharp pointed uniform mixed dense densely
sparse sparsely scattered crowded compact loose empty full half divided separated connected joined attached surrounded
enclosed fenced covered filled lined decorated dotted planted built arranged ordered orderly disordered messy neat
neatly tidy tidily evenly closely tightly distributed located situated placed parked moored docked anchored berthed
stacked staggered interlaced criss adjacent adjoining neighboring neighbouring nearby surrounding opposite facing
overlapping
"""

_VERBS = """
see seen look looks looking show shows showing shown stand stands standing lie lies lying sit sits run runs running go
goes going pass passes passing cross crosses lead leads leading link links linking connect connects connecting join
joins meet meets flow flows flowing wind winds cut cuts cutting divide divides separate separates surround surrounds
surrounding encircle encircles enclose encloses cover covers covering fill fills occupy occupies contain contains
containing include includes including consist consists made make makes composed compose belong grow grows growing
grown plant planting park parking drive drives driving driven travel traveling sail sails sailing fly flying land
landing take taking taken rest resting float floating stop stopped wait waiting extend extends extending stretch
stretches stretching spread spreads cast casts appear appears seem seems resemble resembles place hold holds have keep
keeps leave leaves turn turns built build building find found located arrange gather gathered locate intersect
intersects intersecting intersected overlook border bordering line parked wash washing beat lap laps crash breaking
reflect reflecting shine shining shaded
"""

_TRANSPORT = """
airport airports runway runways taxiway apron terminal terminals hangar hangars airplane airplanes aeroplane plane
planes aircraft jet jets airliner helicopter helipad control tower boarding gate gates wing wings tail road roads
street streets avenue lane lanes highway highways freeway freeways motorway expressway overpass overpasses flyover
viaduct viaducts underpass interchange ramp ramps intersection intersections crossroad crossroads junction roundabout
roundabouts roadside path paths pathway footpath trail trails track tracks sidewalk pavement paved asphalt concrete
cement crosswalk zebra crossings marking markings traffic car cars vehicle vehicles truck trucks lorry van vans bus
buses trailer trailers motorcycle bicycle railway railways railroad rail rails train trains station stations platform
platforms locomotive carriage freight cargo container containers depot yard yards bridge bridges pier piers wharf
wharves dock docks quay jetty marina harbor harbors harbour harbours port ports ship ships boat boats yacht yachts
ferry ferries vessel vessels barge barges sailboat sailboats speedboat tanker crane cranes lot lots garage stall
stalls space spaces toll canal canals tunnel tunnels embankment guardrail lighthouse breakwater
"""

_BUILDINGS = """
building buildings house houses home homes residential residence residences villa villas cottage apartment apartments
flat block bungalow mansion hut huts cabin shed sheds barn barns warehouse warehouses factory factories workshop
workshops plant plants mill industrial industry commercial business downtown office offices shop shops store stores
mall market supermarket center plaza square squares skyscraper skyscrapers high rise tower towers church churches
cathedral temple mosque chapel palace castle monument pagoda school schools campus university college library hospital
hotel hotels resort museum theater theatre cinema hall halls stadium stadiums gymnasium gym arena grandstand stand
stands seats bleachers roof roofs rooftop rooftops eaves wall walls fence fences gate door window windows chimney
chimneys courtyard courtyards yard patio terrace balcony porch lawn lawns garden gardens pool pools swimming fountain
fountains statue sculpture dome domes spire pyramid town towns city cities village villages suburb suburban urban
rural settlement district community neighborhood neighbourhood estate quarter property construction site demolition
ruins scaffold greenhouse greenhouses tent tents mobile trailer caravan
"""

_INDUSTRY = """
storage tank tanks oil petroleum fuel gas silo silos pipe pipes pipeline pipelines refinery chemical thermal power
cooling electric electricity substation transformer pylon solar panel panels photovoltaic wind turbine turbines farm
dam dams reservoir sewage wastewater treatment works quarry mine mines mining pit pits coal ore gravel sand landfill
dump waste scrap machinery machine machines equipment facility facilities smoke steam steel metal iron brick tile
tiles tiled wood wooden glass stone
"""

_SPORT = """
baseball diamond infield outfield base bases mound tennis court courts basketball volleyball badminton football soccer
rugby cricket field fields pitch goal goals golf course fairway green bunker bunkers playground playgrounds ground
grounds running race racetrack oval athletics sport sports sporting recreation play playing game skate park ski rink
ice net nets players people crowd
"""

_NATURE = """
land lands ground soil earth dirt mud clay sand sands dust rock rocks rocky stone stones boulder gravel cliff cliffs
reef reefs shoal hill hills hillside mountain mountains mountainous peak peaks ridge ridges slope slopes valley
valleys canyon gorge plateau plain plains desert deserts dune dunes ripple ripples wasteland wilderness bareland bare
barren open clearing clearings vacant idle deserted fallow exposed crack cracks texture wrinkle wrinkles fold folds
meadow meadows grassland grass grasses grassy pasture prairie savanna tundra moor heath marsh marshes swamp wetland
wetlands bog mangrove forest forests wood woods woodland jungle rainforest grove groves orchard orchards vineyard
plantation tree trees treetop canopy crown crowns bush bushes shrub shrubs hedge hedges vegetation plant plants
greenery foliage leaf leaves lush flourishing withered dry wet flower flowers bed beds palm palms pine chaparral scrub
farmland farmlands farm farms farmer cropland crop crops paddy rice wheat corn maize field fields terraced terrace
terraces furrow furrows plowed ploughed harvested irrigated irrigation pivot ditch ditches cultivated agricultural
agriculture rectangular circular river rivers riverbank riverside riverbed stream streams creek brook tributary delta
estuary bank banks lake lakes lakeside pond ponds pool lagoon bay bays gulf sea seas seaside seawater ocean oceans
shore shores shoreline coast coastal coastline beach beaches surf wave waves foam spray tide tides water waters watery
blue island islands islet archipelago peninsula cape waterfall waterfalls glacier glaciers iceberg snow snowy
snowfield snowberg ice icy frozen cloud clouds cloudy sky fog mist haze shadow shadows sunlight sun sunny volcano
crater lava geology
"""

_DESCRIPTION = """
image images picture pictures photo photograph view views scene scenes aerial overhead satellite remote sensing bird's
eye above top seen caption describe depicts visible beautiful clean modern old new ancient abandoned busy quiet
peaceful prosperous spacious vast tranquil calm rippling sparkling turquoise shallow lonely alone isolated typical
ordinary special unique major minor main local natural artificial luxurious simple complex complete incomplete
unfinished developed planned well luxuriant thriving verdant desolate broken damaged worn painted unpaved dusty group
groups cluster clusters set sets series number amount kind kinds type types variety way ways thing things object
objects item items place places people person pedestrian tourists parasol parasols umbrella umbrellas distance
direction position order rest kilometre metre height neighbor interval intervals gap gaps space
"""


def _words() -> tuple[str, ...]:
    """All words once, in order, then those that open sentences with a capital letter."""
    places = (_TRANSPORT, _BUILDINGS, _INDUSTRY, _SPORT, _NATURE)
    text = (_FUNCTION, _NUMBERS, _COLOURS, _SHAPES, _VERBS, *places, _DESCRIPTION)
    words = [word for block in text for word in block.split()]
    openers = [word.capitalize() for block in (_FUNCTION, _NUMBERS, _COLOURS, _NATURE) for word in block.split()]
    return tuple(dict.fromkeys([*words, *openers]))


TRAINING_WORDS: tuple[str, ...] = _words()
"""Each word once: about two thousand, capitalised openings included."""

KINDS: tuple[tuple[str, ...], ...] = tuple(
    tuple(dict.fromkeys(block.split()))
    for block in (_NUMBERS, _COLOURS, _SHAPES, _VERBS, _TRANSPORT, _BUILDINGS, _INDUSTRY, _SPORT, _NATURE, _DESCRIPTION)
)
"""The words by kind."""
