"""The kinds of products: category, what people buy next, and the phrases of their descriptions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of product.

    Attributes:
        name: Noun, also the last word of a title.
        category: As in a shop's navigation.
        leads_to: Kinds that are often bought next.
        materials: Each fits "made of ..." and a title.
        place: Where the brand's mark is, as in "on the ...".
        uses: Each completes "made for ...".
        features: Whole sentences without a subject clash; ``{it}`` stands for the product.
        sizes: Sentences about dimensions; ``{a}`` is a number of centimetres or the like.
        care: Whole sentences.
    """

    name: str
    category: str
    leads_to: tuple[str, ...]
    materials: tuple[str, ...]
    place: str
    uses: tuple[str, ...]
    features: tuple[str, ...]
    sizes: tuple[str, ...]
    size_range: tuple[int, int]
    care: tuple[str, ...]


_HAND_WASH = (
    "Wash it by hand with mild soap and let it dry in the open.",
    "A damp cloth is all that cleaning takes.",
    "It survives the top rack of a dishwasher, though rinsing by hand keeps the finish fresh for longer.",
)
_WIPE = (
    "Wipe it with a soft, dry cloth from time to time.",
    "Dust comes off with a brush, and stains with a drop of soap.",
    "Keep it out of standing water and it will look new for years.",
)
_FABRIC = (
    "Machine wash cold with similar things and skip the dryer.",
    "Spot clean with lukewarm water and leave it to dry in the shade.",
    "The fabric keeps its hold after many washes at thirty degrees.",
)
_INSTRUMENT = (
    "Keep it away from radiators and it will stay true through the winter.",
    "A quick wipe after playing keeps the surface clean.",
    "Store it somewhere dry and check the fittings once a season.",
)

KINDS = (
    Kind(
        name="mug",
        category="Home | Kitchen | Mugs",
        leads_to=("teapot", "bottle"),
        materials=("stoneware", "porcelain", "enamel", "earthenware"),
        place="front",
        uses=("long mornings with coffee", "the desk at work", "a quiet cup of tea", "soup on cold evenings"),
        features=(
            "The handle leaves room for three fingers, even with gloves on.",
            "{It} keeps a drink warm while the conversation runs on.",
            "A glazed rim makes sipping pleasant and wipes clean at once.",
            "The foot is ground smooth, so tables stay free of scratches.",
        ),
        sizes=(
            "{It} holds {a} millilitres up to the brim.",
            "Its volume of {a} millilitres suits a large coffee.",
        ),
        size_range=(240, 480),
        care=_HAND_WASH,
    ),
    Kind(
        name="teapot",
        category="Home | Kitchen | Teapots",
        leads_to=("mug", "vase"),
        materials=("ceramic", "porcelain", "stoneware", "enamel"),
        place="belly",
        uses=(
            "afternoon tea with friends",
            "a slow Sunday breakfast",
            "loose leaves of every sort",
            "two patient drinkers",
        ),
        features=(
            "The spout pours without a drip, whatever the angle.",
            "Inside sits a strainer that lifts out for rinsing.",
            "The wooden knob stays cool when the water does not.",
            "{It} stands firmly and never rattles on the tray.",
        ),
        sizes=(
            "{It} brews {a} centilitres at a time.",
            "With {a} centilitres there is enough for the whole table.",
        ),
        size_range=(60, 140),
        care=_HAND_WASH,
    ),
    Kind(
        name="bottle",
        category="Sport | Hydration | Bottles",
        leads_to=("backpack", "sneaker"),
        materials=("steel", "aluminium", "glass", "copolyester"),
        place="side",
        uses=("day hikes", "the gym and the way back", "long train rides", "a full day away from a tap"),
        features=(
            "The screw cap seals tight and has a loop to carry it by.",
            "Double walls keep water cold through a hot afternoon.",
            "{It} slides into the side pocket of any bag.",
            "The opening lets ice cubes through.",
        ),
        sizes=(
            "{It} takes {a} millilitres of water.",
            "A full load is {a} millilitres, which lasts for hours.",
        ),
        size_range=(400, 950),
        care=_HAND_WASH,
    ),
    Kind(
        name="vase",
        category="Home | Decoration | Vases",
        leads_to=("lamp", "clock"),
        materials=("ceramic", "terracotta", "glass", "porcelain"),
        place="belly",
        uses=(
            "fresh tulips",
            "dry twigs and grasses",
            "an empty corner of the shelf",
            "the middle of the table",
        ),
        features=(
            "The neck gathers loose stems into a tidy bunch.",
            "{It} is heavy at the base and hard to knock over.",
            "A sealed inside keeps water where it belongs.",
            "Each one leaves the wheel a little different from the last.",
        ),
        sizes=("{It} is {a} centimetres tall.", "At {a} centimetres it suits stems of medium length."),
        size_range=(18, 38),
        care=_WIPE,
    ),
    Kind(
        name="lamp",
        category="Home | Lighting | Lamps",
        leads_to=("clock", "chair"),
        materials=("linen", "cotton", "parchment", "felt"),
        place="shade",
        uses=(
            "reading in bed",
            "a desk by the window",
            "warm light in the hall",
            "late evenings with a book",
        ),
        features=(
            "A pull switch hangs within easy reach.",
            "The shade softens the light, so nobody has to squint.",
            "{It} takes any common bulb and stays cool to the touch.",
            "Its weighted foot keeps the stem upright on uneven floors.",
        ),
        sizes=("{It} stands {a} centimetres high.", "From foot to top it measures {a} centimetres."),
        size_range=(32, 58),
        care=_WIPE,
    ),
    Kind(
        name="chair",
        category="Home | Furniture | Chairs",
        leads_to=("lamp", "vase"),
        materials=("oak", "beech", "ash", "walnut"),
        place="backrest",
        uses=("the dining table", "long hours of homework", "guests who stay late", "a corner by the stove"),
        features=(
            "The padded back gives way a little when you lean into it.",
            "Four legs are joined with dowels instead of screws.",
            "{It} carries a grown person without a creak.",
            "Felt pads under the feet spare the floor.",
        ),
        sizes=("The seat is {a} centimetres above the floor.", "{It} seats you at {a} centimetres."),
        size_range=(42, 50),
        care=_WIPE,
    ),
    Kind(
        name="clock",
        category="Home | Decoration | Clocks",
        leads_to=("lamp", "mug"),
        materials=("brass", "steel", "tin", "zinc"),
        place="rim below the dial",
        uses=("heavy sleepers", "the bedside table", "a shelf in the kitchen", "anyone tired of screens"),
        features=(
            "Two bells on top ring loudly enough for the deepest sleep.",
            "The hands sweep quietly, without a tick.",
            "{It} runs for a year on a single cell.",
            "Large markers make the time readable across the room.",
        ),
        sizes=("The dial is {a} centimetres across.", "{It} measures {a} centimetres from side to side."),
        size_range=(9, 22),
        care=_WIPE,
    ),
    Kind(
        name="backpack",
        category="Travel | Bags | Backpacks",
        leads_to=("bottle", "umbrella"),
        materials=("canvas", "nylon", "waxed cotton", "polyester"),
        place="top panel",
        uses=(
            "the daily commute",
            "school and the library",
            "weekends in the hills",
            "a laptop and a lunch box",
        ),
        features=(
            "A front pocket keeps keys and cards apart from the rest.",
            "The straps are padded and can be set with one hand.",
            "{It} has a sleeve inside for a computer.",
            "Zips run smoothly and have long pullers.",
        ),
        sizes=("{It} swallows {a} litres.", "There is room for {a} litres of luggage."),
        size_range=(14, 32),
        care=_FABRIC,
    ),
    Kind(
        name="suitcase",
        category="Travel | Bags | Suitcases",
        leads_to=("backpack", "headphones"),
        materials=("polycarbonate", "aluminium", "fibreboard", "polypropylene"),
        place="lid",
        uses=(
            "short flights",
            "a week by the sea",
            "visits to the family",
            "business trips with little time",
        ),
        features=(
            "Its wheels roll quietly over cobbles and carpets alike.",
            "The handle locks at three heights.",
            "Metal corners take the knocks of the luggage belt.",
            "{It} opens flat and has straps on both sides.",
        ),
        sizes=("{It} offers {a} litres of space.", "Packed full, it carries {a} litres."),
        size_range=(32, 78),
        care=_WIPE,
    ),
    Kind(
        name="umbrella",
        category="Travel | Rainwear | Umbrellas",
        leads_to=("backpack", "cap"),
        materials=("pongee", "polyester", "nylon", "waxed cotton"),
        place="canopy",
        uses=(
            "sudden showers",
            "windy corners in town",
            "walking the dog in April",
            "two people under one roof",
        ),
        features=(
            "The canopy springs open at the push of a button.",
            "Flexible ribs give way in a gust and come back into place.",
            "A hooked wooden handle hangs from the arm when both hands are full.",
            "{It} dries within the hour.",
        ),
        sizes=("Open, it spans {a} centimetres.", "{It} covers a circle of {a} centimetres."),
        size_range=(92, 128),
        care=_WIPE,
    ),
    Kind(
        name="cap",
        category="Clothing | Accessories | Caps",
        leads_to=("T-shirt", "sneaker"),
        materials=("cotton twill", "wool", "corduroy", "ripstop"),
        place="crown",
        uses=(
            "sunny stands at the stadium",
            "running errands",
            "days when hair will not obey",
            "bright mornings on the water",
        ),
        features=(
            "The curved peak keeps glare out of the eyes.",
            "A strap at the back fits it to almost any head.",
            "Stitched eyelets let the heat out.",
            "{It} folds into a pocket and springs back.",
        ),
        sizes=("{It} fits heads up to {a} centimetres around.", "The band reaches {a} centimetres."),
        size_range=(56, 63),
        care=_FABRIC,
    ),
    Kind(
        name="T-shirt",
        category="Clothing | Tops | T-shirts",
        leads_to=("cap", "sneaker"),
        materials=("organic cotton", "jersey", "linen blend", "bamboo"),
        place="chest",
        uses=("warm days", "layering under a jacket", "lazy weekends", "training and travelling"),
        features=(
            "The collar is ribbed and keeps its form.",
            "Side seams are flat and do not rub.",
            "{It} falls straight from the shoulder.",
            "The cloth is dense enough not to show through.",
        ),
        sizes=("The cloth weighs {a} grams a square metre.", "{It} is knitted at {a} grams a square metre."),
        size_range=(140, 230),
        care=_FABRIC,
    ),
    Kind(
        name="sneaker",
        category="Clothing | Shoes | Sneakers",
        leads_to=("skateboard", "T-shirt"),
        materials=("canvas", "suede", "mesh", "leather"),
        place="heel side",
        uses=("city pavements", "the school run", "indoor courts", "standing all day"),
        features=(
            "A rubber toe cap takes the kerbs.",
            "The sole bends easily and grips on wet stone.",
            "{It} laces up in seconds and stays tied.",
            "A padded collar spares the ankle.",
        ),
        sizes=("One shoe weighs {a} grams.", "At {a} grams, {it} is easy to forget on the foot."),
        size_range=(260, 420),
        care=_FABRIC,
    ),
    Kind(
        name="guitar",
        category="Music | Instruments | Guitars",
        leads_to=("headphones", "drum"),
        materials=("spruce", "mahogany", "cedar", "maple"),
        place="body below the bridge",
        uses=(
            "campfires",
            "the first chords of a beginner",
            "songwriting on the sofa",
            "small rooms and quiet stages",
        ),
        features=(
            "The neck lies well in small hands.",
            "Its tone is round and does not shout.",
            "Tuners turn without slack and hold their pitch.",
            "{It} rings on long after the last chord.",
        ),
        sizes=("The scale is {a} millimetres long.", "{It} has a scale of {a} millimetres."),
        size_range=(560, 650),
        care=_INSTRUMENT,
    ),
    Kind(
        name="drum",
        category="Music | Instruments | Drums",
        leads_to=("guitar", "headphones"),
        materials=("birch", "poplar", "maple", "steel"),
        place="shell",
        uses=("a first rehearsal", "street parades", "keeping time in the school band", "restless hands"),
        features=(
            "The head is coated and answers to the lightest stroke.",
            "Two sticks come in the box.",
            "Lugs tighten evenly, so tuning takes a minute.",
            "{It} cracks loudly when struck at the rim.",
        ),
        sizes=("The head is {a} centimetres wide.", "{It} measures {a} centimetres across the skin."),
        size_range=(25, 40),
        care=_INSTRUMENT,
    ),
    Kind(
        name="headphones",
        category="Electronics | Audio | Headphones",
        leads_to=("camera", "guitar"),
        materials=("alloy", "polymer", "leatherette", "bamboo"),
        place="left cup",
        uses=("noisy offices", "night flights", "mixing at home", "podcasts on the bus"),
        features=(
            "The ear cups close around the ear and shut out the street.",
            "The band spreads its pressure, so that hours pass unnoticed.",
            "One charge lasts from Monday to Friday.",
            "Voices sound close, and basses stay in their place.",
        ),
        sizes=("The whole set weighs {a} grams.", "All of it comes to {a} grams."),
        size_range=(180, 310),
        care=_WIPE,
    ),
    Kind(
        name="camera",
        category="Electronics | Photography | Cameras",
        leads_to=("backpack", "suitcase"),
        materials=("magnesium", "alloy", "polymer", "aluminium"),
        place="grip",
        uses=("travel diaries", "street scenes at dusk", "birthdays and weddings", "learning to see"),
        features=(
            "The shutter releases without delay.",
            "A bright finder shows the whole frame, glasses or not.",
            "{It} focuses on faces before you ask.",
            "All dials can be turned with the thumb.",
        ),
        sizes=("{It} weighs {a} grams with the battery.", "Ready to shoot, it comes to {a} grams."),
        size_range=(340, 690),
        care=_WIPE,
    ),
    Kind(
        name="skateboard",
        category="Sport | Boards | Skateboards",
        leads_to=("sneaker", "cap"),
        materials=("maple", "bamboo", "birch", "fibreglass"),
        place="underside between the trucks",
        uses=("smooth car parks", "the way to school", "first tricks", "cruising along the river"),
        features=(
            "Seven layers give the deck its snap.",
            "Soft wheels swallow the gravel.",
            "The trucks turn readily and do not wobble at speed.",
            "{It} comes gripped and ready to ride.",
        ),
        sizes=("The deck is {a} centimetres long.", "{It} measures {a} centimetres from nose to tail."),
        size_range=(70, 84),
        care=_INSTRUMENT,
    ),
)
