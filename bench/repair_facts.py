"""What `build_repair.py` asks the default model: facts of thirteen kinds, and twenty-four ways to ask for each kind.

A fact is (subject, right answer[, other accepted answers]). Written for this benchmark from general knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of question."""

    name: str
    templates: tuple[str, ...]
    """The first is the prompt itself, the rest are its paraphrases; `{}` is the subject (or `{0}`, `{1}` of a pair)."""
    facts: tuple[tuple[str, ...], ...]
    """(subject, answer) or, for pairs, (first, second, answer)."""


def _pairs(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(part.strip() for part in line.split("=")) for line in text.strip().splitlines())


CAPITALS = Kind(
    "capital",
    (
        "What is the capital of {}?",
        "Name the capital city of {}.",
        "Which city is the capital of {}?",
        "Tell me the capital of {}.",
        "What's the capital city of {}?",
        "I forgot the capital of {}. What is it?",
        "Capital of {}?",
        "Complete the sentence: The capital of {} is",
        "Which city serves as the seat of government of {}?",
        "For a quiz: what is the capital of {}?",
        "Do you know the capital of {}?",
        "In one word, what is the capital of {}?",
        "What city is the capital of {}?",
        "Please tell me the capital of {}.",
        "Can you name the capital of {}?",
        "Which city is {}'s capital?",
        "What is the name of the capital city of {}?",
        "The capital of {} is",
        "Complete: {}'s capital city is",
        "Geography question: which city is the capital of {}?",
        "My teacher asked me for the capital of {}. What is it?",
        "What is the capital city of the country {}?",
        "Finish the sentence: The capital city of {} is",
        "I am writing about {}. What is its capital?",
    ),
    _pairs("""
        Turkey = Ankara
        Brazil = Brasilia
        Australia = Canberra
        Canada = Ottawa
        Switzerland = Bern
        Myanmar = Naypyidaw
        Nigeria = Abuja
        Pakistan = Islamabad
        Kazakhstan = Astana
        Vietnam = Hanoi
        Morocco = Rabat
        South Africa = Pretoria
        Tanzania = Dodoma
        New Zealand = Wellington
        Bolivia = Sucre
        Ecuador = Quito
        Ivory Coast = Yamoussoukro
        Kenya = Nairobi
        Uganda = Kampala
        Ghana = Accra
        Senegal = Dakar
        Sudan = Khartoum
        Ethiopia = Addis Ababa
        Zambia = Lusaka
        Zimbabwe = Harare
        Mongolia = Ulaanbaatar
        Nepal = Kathmandu
        Bhutan = Thimphu
        Sri Lanka = Colombo
        Laos = Vientiane
        Cambodia = Phnom Penh
        Malaysia = Kuala Lumpur
        Philippines = Manila
        Iceland = Reykjavik
        Norway = Oslo
        Sweden = Stockholm
        Finland = Helsinki
        Denmark = Copenhagen
        Estonia = Tallinn
        Latvia = Riga
        Lithuania = Vilnius
        Ukraine = Kyiv
        Belarus = Minsk
        Romania = Bucharest
        Bulgaria = Sofia
        Serbia = Belgrade
        Croatia = Zagreb
        Slovenia = Ljubljana
        Slovakia = Bratislava
        Hungary = Budapest
        Albania = Tirana
        Georgia = Tbilisi
        Armenia = Yerevan
        Jordan = Amman
        Syria = Damascus
        Lebanon = Beirut
        Oman = Muscat
        Yemen = Sanaa
        Peru = Lima
        Chile = Santiago
        Colombia = Bogota
        Venezuela = Caracas
        Cuba = Havana
        Jamaica = Kingston
        Panama = Panama City
        Israel = Jerusalem
        United Arab Emirates = Abu Dhabi
        Libya = Tripoli
        Angola = Luanda
        Cyprus = Nicosia
    """),
)

OPPOSITES = Kind(
    "opposite",
    (
        "What is the opposite of '{}'?",
        "Give me the opposite of {}.",
        "What word means the opposite of {}?",
        "Name the antonym of {}.",
        "What's an antonym for the word {}?",
        "The opposite of {} is",
        "Which word is the opposite of {}?",
        "Tell me the opposite of the word {}.",
        "In one word, what is the opposite of {}?",
        "If something is not {}, what is its opposite called?",
        "Complete: {} is the opposite of",
        "I need the antonym of '{}'.",
        "What is the opposite of the word {}?",
        "Which word means the opposite of '{}'?",
        "Please give me an antonym of {}.",
        "Can you tell me the opposite of {}?",
        "What is an antonym of '{}'?",
        "Complete the sentence: The opposite of {} is",
        "Fill in the blank: The opposite of {} is",
        "What's the opposite of {}?",
        "For a quiz: what is the opposite of {}?",
        "The antonym of {} is",
        "Which adjective, noun or verb is the opposite of {}?",
        "I forgot the opposite of {}. What is it?",
    ),
    _pairs("""
        hot = cold
        big = small
        tall = short
        fast = slow
        early = late
        rich = poor
        full = empty
        ancient = modern
        generous = stingy
        brave = cowardly
        smooth = rough
        deep = shallow
        wide = narrow
        polite = rude
        noisy = quiet
        strong = weak
        heavy = light
        dirty = clean
        hard = soft
        thick = thin
        cheap = expensive
        sharp = dull
        loose = tight
        victory = defeat
        arrive = leave
        increase = decrease
        private = public
        sweet = sour
        bright = dark
        young = old
        raw = cooked
        borrow = lend
        buy = sell
        north = south
        above = below
        guilty = innocent
        temporary = permanent
        artificial = natural
        maximum = minimum
        exit = entrance
        wet = dry
        awake = asleep
        accept = reject
        success = failure
        humble = proud
        stale = fresh
        vertical = horizontal
        future = past
        question = answer
        import = export
    """),
)

PAST = Kind(
    "past tense",
    (
        "What is the past tense of '{}'?",
        "Give the past tense of the verb {}.",
        "What is the simple past of {}?",
        "Put the verb '{}' into the past tense.",
        "Tell me the past tense of {}.",
        "The past tense of {} is",
        "What's the past form of the verb {}?",
        "How do you write {} in the past tense?",
        "Write the past tense form of '{}'.",
        "In one word, what is the past tense of {}?",
        "Which form is the past tense of {}?",
        "I need the past tense of {}.",
        "What's the past tense of {}?",
        "Complete the sentence: The past tense of {} is",
        "Fill in the blank: The past tense of {} is",
        "Please give me the past tense of '{}'.",
        "Can you tell me the past tense of {}?",
        "Name the past tense of the verb {}.",
        "What is the past tense form of {}?",
        "For a quiz: what is the past tense of {}?",
        "Which word is the past tense of '{}'?",
        "What is the past tense of the English verb {}?",
        "The simple past of the verb {} is",
        "I forgot the past tense of {}. What is it?",
    ),
    _pairs("""
        bring = brought
        teach = taught
        catch = caught
        fly = flew
        sing = sang
        swim = swam
        drink = drank
        freeze = froze
        choose = chose
        steal = stole
        hide = hid
        bite = bit
        dig = dug
        hang = hung
        stick = stuck
        sweep = swept
        weep = wept
        seek = sought
        fight = fought
        buy = bought
        think = thought
        lead = led
        feed = fed
        bleed = bled
        shine = shone
        tear = tore
        wear = wore
        swear = swore
        grow = grew
        throw = threw
        draw = drew
        shake = shook
        forget = forgot
        ring = rang
        sink = sank
        spring = sprang
        wake = woke
        rise = rose
        ride = rode
        write = wrote
    """),
)

ARITHMETIC = Kind(
    "arithmetic",
    (
        "{} =",
        "Complete: {} =",
        "{} is equal to",
        "{} equals",
        "Answer with one number: {} =",
        "What is {}? Answer with the number only.",
        "Fill in the blank: {} =",
        "Fill in the blank: {} is",
        "Complete the equation: {} =",
        "The answer to {} is",
        "Finish: {} =",
        "Give only the number: {} =",
        "Solve: {} =",
        "Calculate: {} =",
        "What number is {}? Answer with the number only.",
        "Fill in the blank: {} equals",
        "Finish the equation: {} =",
        "Complete the sentence: {} equals",
        "Complete the sentence: {} is equal to",
        "The result of {} is",
        "Write only the answer: {} =",
        "Math quiz: {} =",
        "One number only: {} =",
        "In numbers, {} equals",
    ),
    _pairs("""
        17 + 25 = 42
        23 + 48 = 71
        36 + 57 = 93
        19 + 14 = 33
        45 + 38 = 83
        27 + 16 = 43
        64 - 28 = 36
        52 - 17 = 35
        81 - 36 = 45
        90 - 43 = 47
        33 - 15 = 18
        7 * 8 = 56
        6 * 9 = 54
        12 * 4 = 48
        9 * 7 = 63
        11 * 6 = 66
        8 * 8 = 64
        13 * 3 = 39
        15 * 5 = 75
        56 / 7 = 8
        72 / 8 = 9
        63 / 9 = 7
        48 / 6 = 8
        5 + 9 = 14
        8 + 7 = 15
        13 - 6 = 7
        15 - 8 = 7
        20 - 7 = 13
        3 * 4 = 12
        29 + 13 = 42
        18 + 18 = 36
        47 + 5 = 52
        99 - 11 = 88
        70 - 25 = 45
    """),
)

CATEGORIES = Kind(
    "category",
    (
        "Answer with one word. Is a {0} a {1} or a {2}?",
        "Answer in one word: is a {0} a {1} or a {2}?",
        "Is a {0} a {1} or a {2}? Answer in one word.",
        "In one word, is a {0} a {1} or a {2}?",
        "Answer briefly. Is a {0} a {1} or a {2}?",
        "Give a one-word answer. Is a {0} a {1} or a {2}?",
        "Fill in the blank with {1} or {2}: A {0} is a",
        "Finish the sentence with {1} or {2}: A {0} is a",
        "One word please: is a {0} a {1} or a {2}?",
        "Reply with one word. Is the {0} a {1} or a {2}?",
        "Say {1} or {2}: A {0} is a",
        "Choose one word, {1} or {2}. A {0} is a",
        "Is the {0} a {1} or a {2}? Answer in one word.",
        "In a single word: is a {0} a {1} or a {2}?",
        "Tell me in one word: is a {0} a {1} or a {2}?",
        "Just one word: is a {0} a {1} or a {2}?",
        "Which is it, {1} or {2}? A {0} is a",
        "Quiz, one word: is a {0} a {1} or a {2}?",
        "Complete with {1} or {2}: A {0} is a",
        "Pick {1} or {2}: A {0} is a",
        "Use one word. Is a {0} a {1} or a {2}?",
        "Is a {0} a {1} or a {2}? Just one word.",
        "Short answer please: is a {0} a {1} or a {2}?",
        "Write {1} or {2}: The {0} is a",
    ),
    _pairs("""
        whale = fish = mammal = mammal
        dolphin = fish = mammal = mammal
        bat = bird = mammal = mammal
        penguin = bird = fish = bird
        tomato = vegetable = fruit = fruit
        cucumber = vegetable = fruit = fruit
        pumpkin = vegetable = fruit = fruit
        spider = insect = arachnid = arachnid
        carrot = fruit = vegetable = vegetable
        potato = fruit = vegetable = vegetable
        shark = mammal = fish = fish
        frog = reptile = amphibian = amphibian
        snake = amphibian = reptile = reptile
        turtle = mammal = reptile = reptile
        trumpet = tool = instrument = instrument
        hammer = instrument = tool = tool
        rose = tree = flower = flower
        oak = flower = tree = tree
        diamond = plant = mineral = mineral
        seal = fish = mammal = mammal
        ostrich = mammal = bird = bird
        salmon = bird = fish = fish
        chair = vehicle = piece of furniture = furniture
        bicycle = building = vehicle = vehicle
        violin = sport = instrument = instrument
        lettuce = fruit = vegetable = vegetable
        banana = vegetable = fruit = fruit
        crab = insect = crustacean = crustacean
        beetle = mammal = insect = insect
        eagle = mammal = bird = bird
        lizard = bird = reptile = reptile
        salamander = reptile = amphibian = amphibian
        crocodile = fish = reptile = reptile
        mushroom = plant = fungus = fungus
        moon = planet = satellite = satellite
        Pluto = star = dwarf planet = dwarf
        sun = planet = star = star
    """),
)

AUTHORS = Kind(
    "author",
    (
        "Complete the sentence: {} was written by",
        "Finish the sentence: {} was written by",
        "Fill in the blank: {} was written by",
        "Name the author of {}.",
        "Who is the author of {}? Answer with the name only.",
        "{} is a novel by",
        "Complete the sentence: The author of {} is",
        "Complete: {} is a book by",
        "In one word, who wrote {}?",
        "Fill in the blank: The writer of {} is",
        "Tell me the name of the author of {}.",
        "Complete the sentence: The book {} was written by",
        "Complete the sentence: The writer of {} is",
        "Fill in the blank: The author of {} is",
        "Fill in the blank: {} is a book by",
        "Finish the sentence: The author of {} is",
        "Complete: {} was written by",
        "Complete the sentence: {} is a work by",
        "The author of {} is",
        "Who wrote {}? Answer with the name only.",
        "Finish the sentence: {} is a book by",
        "Give the name of the author of {}.",
        "Name the writer of {}.",
        "Fill in the blank: The book {} was written by",
    ),
    _pairs("""
        War and Peace = Tolstoy
        Pride and Prejudice = Austen
        Moby-Dick = Melville
        The Great Gatsby = Fitzgerald
        1984 = Orwell
        Animal Farm = Orwell
        Don Quixote = Cervantes
        Hamlet = Shakespeare
        The Odyssey = Homer
        Crime and Punishment = Dostoevsky
        Frankenstein = Shelley
        Dracula = Stoker
        The Hobbit = Tolkien
        Brave New World = Huxley
        The Catcher in the Rye = Salinger
        To Kill a Mockingbird = Lee
        The Old Man and the Sea = Hemingway
        Oliver Twist = Dickens
        Great Expectations = Dickens
        Alice in Wonderland = Carroll
        Peter Pan = Barrie
        Treasure Island = Stevenson
        Robinson Crusoe = Defoe
        Gulliver's Travels = Swift
        The Divine Comedy = Dante
        Faust = Goethe
        Madame Bovary = Flaubert
        Les Miserables = Hugo
        The Three Musketeers = Dumas
        The Stranger = Camus
        The Metamorphosis = Kafka
        The Jungle Book = Kipling
        Lord of the Flies = Golding
        The Time Machine = Wells
        Walden = Thoreau
        Anna Karenina = Tolstoy
        The Raven = Poe
        The Wealth of Nations = Smith
        The Republic = Plato
        Little Women = Alcott
        Dune = Herbert
        Fahrenheit 451 = Bradbury
        The Grapes of Wrath = Steinbeck
        Ulysses = Joyce
    """),
)

NUMBERS = Kind(
    "number comparison",
    (
        "Fill in the blank: Between {0} and {1}, the larger number is",
        "The bigger of the two numbers {0} and {1} is",
        "Which is larger, {0} or {1}? Answer with the number only.",
        "Which number is bigger: {0} or {1}? Give only the number.",
        "Fill in the blank: Of {0} and {1}, the greater number is",
        "The greater of the two numbers {0} and {1} is",
        "Fill in the blank: The larger of {0} and {1} is",
        "Between {0} and {1}, the bigger number is",
        "In one word, which is larger: {0} or {1}?",
        "Which one is greater, {0} or {1}? Just say the number.",
        "Fill in the blank: When we compare {0} and {1}, the larger one is",
        "Say which is larger: {0} or {1}.",
        "Fill in the blank: Between {0} and {1}, the bigger number is",
        "Fill in the blank: The bigger of {0} and {1} is",
        "Fill in the blank: The greater of {0} and {1} is",
        "The larger of the two numbers {0} and {1} is",
        "Complete the sentence: The larger of {0} and {1} is",
        "Complete: Of the numbers {0} and {1}, the bigger one is",
        "Which is bigger, {0} or {1}? Answer with the number only.",
        "Which is greater, {0} or {1}? Give only the number.",
        "Name the larger number: {0} or {1}.",
        "Finish the sentence: Of {0} and {1}, the larger number is",
        "Answer with one number: which is larger, {0} or {1}?",
        "Fill in the blank: Comparing {0} with {1}, the larger one is",
    ),
    _pairs("""
        9.9 = 9.11 = 9.9
        9.11 = 9.9 = 9.9
        7.8 = 7.12 = 7.8
        3.25 = 3.3 = 3.3
        0.5 = 0.45 = 0.5
        0.09 = 0.1 = 0.1
        12 = 21 = 21
        45 = 54 = 54
        100 = 99 = 100
        1.5 = 1.25 = 1.5
        2.01 = 2.1 = 2.1
        8.7 = 8.65 = 8.7
        6 = 16 = 16
        19 = 91 = 91
        250 = 205 = 250
        0.3 = 0.29 = 0.3
        5.6 = 5.59 = 5.6
        70 = 17 = 70
        4.4 = 4.13 = 4.4
        1000 = 999 = 1000
        38 = 83 = 83
        62 = 26 = 62
        501 = 510 = 510
        77 = 71 = 77
    """),
)

SYMBOLS = Kind(
    "chemical symbol",
    (
        "What is the chemical symbol for {}?",
        "Give me the chemical symbol of {}.",
        "What symbol does {} have in the periodic table?",
        "Which symbol stands for {} in chemistry?",
        "Tell me the chemical symbol for {}.",
        "The chemical symbol for {} is",
        "What's the element symbol of {}?",
        "How is {} abbreviated in the periodic table?",
        "Name the symbol of the element {}.",
        "In chemistry, what is the symbol for {}?",
        "For a quiz: what is the chemical symbol of {}?",
        "I need the chemical symbol for {}.",
        "What is the symbol for the element {}?",
        "Complete the sentence: The chemical symbol for {} is",
        "Fill in the blank: The chemical symbol of {} is",
        "What is the element symbol for {}?",
        "Which chemical symbol does {} have?",
        "Can you tell me the chemical symbol of {}?",
        "Please give me the symbol for {} in chemistry.",
        "The symbol of the element {} is",
        "What's the chemical symbol for {}?",
        "I forgot the chemical symbol for {}. What is it?",
        "Which symbol does {} have in the periodic table?",
        "What is the periodic table symbol for {}?",
    ),
    _pairs("""
        gold = Au
        silver = Ag
        iron = Fe
        lead = Pb
        tin = Sn
        sodium = Na
        potassium = K
        mercury = Hg
        copper = Cu
        tungsten = W
        helium = He
        neon = Ne
        carbon = C
        nitrogen = N
        oxygen = O
        hydrogen = H
        zinc = Zn
        nickel = Ni
        aluminum = Al
        silicon = Si
        sulfur = S
        chlorine = Cl
        calcium = Ca
        magnesium = Mg
        antimony = Sb
        platinum = Pt
        uranium = U
        lithium = Li
        fluorine = F
        phosphorus = P
        iodine = I
        titanium = Ti
        chromium = Cr
        cobalt = Co
        arsenic = As
    """),
)

CURRENCIES = Kind(
    "currency",
    (
        "What is the currency of {}?",
        "Which currency is used in {}?",
        "What money do people use in {}?",
        "Name the currency of {}.",
        "Tell me the currency of {}.",
        "The currency of {} is the",
        "What's the official currency of {}?",
        "In {}, people pay with which currency?",
        "I am travelling to {}. What currency do they use?",
        "For a quiz: what is the currency of {}?",
        "Do you know the currency of {}?",
        "What is the name of the money used in {}?",
        "What's the currency of {}?",
        "Which currency do people use in {}?",
        "What is the official currency of {}?",
        "The official currency of {} is the",
        "Complete the sentence: The currency of {} is the",
        "Fill in the blank: The currency of {} is the",
        "What currency is used in {}?",
        "Can you tell me the currency of {}?",
        "What is the national currency of {}?",
        "I forgot the currency of {}. What is it?",
        "Which currency does {} use?",
        "What currency do I need in {}?",
    ),
    _pairs("""
        Japan = yen
        India = rupee
        China = yuan
        Russia = ruble
        Poland = zloty
        Sweden = krona
        Denmark = krone
        Norway = krone
        Switzerland = franc
        Turkey = lira
        Brazil = real
        Mexico = peso
        South Africa = rand
        Thailand = baht
        Vietnam = dong
        South Korea = won
        Israel = shekel
        Hungary = forint
        Czech Republic = koruna
        Indonesia = rupiah
        Malaysia = ringgit
        Nigeria = naira
        Kenya = shilling
        Ghana = cedi
        Egypt = pound
        Morocco = dirham
        Saudi Arabia = riyal
        Kuwait = dinar
        Peru = sol
        Bangladesh = taka
        Ukraine = hryvnia
        Germany = euro
        Ireland = euro
        Iceland = krona
        Romania = leu
    """),
)

YOUNG = Kind(
    "baby animal",
    (
        "Complete the sentence: A baby {} is called a",
        "Fill in the blank: A baby {} is called a",
        "Finish the sentence: A baby {} is called a",
        "Complete the sentence: A young {} is called a",
        "Fill in the blank: A young {} is called a",
        "A young {} is called a",
        "What do you call a baby {}?",
        "What do we call a young {}?",
        "Complete: A baby {} is known as a",
        "Complete the sentence: The young of a {} is called a",
        "Fill in the blank: The baby of a {} is called a",
        "What is a baby {} called? Answer in one word.",
        "Complete the sentence: The baby of a {} is called a",
        "Fill in the blank: The young of a {} is called a",
        "Finish the sentence: A young {} is called a",
        "A baby {} is called a",
        "Complete: A young {} is known as a",
        "What is a young {} called?",
        "What is the name for a baby {}?",
        "What is the word for a young {}?",
        "Tell me what a baby {} is called.",
        "Name the young of a {}.",
        "In one word, what is a baby {} called?",
        "For a quiz: what is a young {} called?",
    ),
    _pairs("""
        dog = puppy
        cat = kitten
        cow = calf
        horse = foal
        sheep = lamb
        goat = kid
        pig = piglet
        duck = duckling
        goose = gosling
        swan = cygnet
        lion = cub
        bear = cub
        deer = fawn
        kangaroo = joey
        frog = tadpole
        eagle = eaglet
        owl = owlet
        fox = cub
        rabbit = kit
        whale = calf
        seal = pup
        elephant = calf
        chicken = chick
        wolf = pup
        penguin = chick
        giraffe = calf
        turkey = poult
        hare = leveret
    """),
)

MONTHS = Kind(
    "month",
    (
        "What month comes after {}?",
        "Which month follows {}?",
        "Tell me the month that comes after {}.",
        "Name the month that follows {}.",
        "Which month comes right after {}?",
        "What is the month after {}?",
        "Which month is next after {}?",
        "What month follows {}?",
        "What is the next month after {}?",
        "In the calendar, what month comes after {}?",
        "If it is {} now, which month comes next?",
        "Say the month that comes after {}.",
        "Name the month after {}.",
        "Tell me which month follows {}.",
        "Which month comes after the month of {}?",
        "What's the month after {}?",
        "For a quiz: which month comes after {}?",
        "Complete the sentence: The month after {} is",
        "Fill in the blank: The month after {} is",
        "The month that follows {} is",
        "In one word, which month comes after {}?",
        "What is the month that follows {}?",
        "Can you tell me the month after {}?",
        "I forgot which month comes after {}. Which one is it?",
    ),
    _pairs("""
        January = February
        February = March
        March = April
        April = May
        May = June
        June = July
        July = August
        August = September
        September = October
        October = November
        November = December
        December = January
    """),
)

LANGUAGES = Kind(
    "language",
    (
        "What is the official language of {}?",
        "Complete the sentence: The official language of {} is",
        "Tell me the official language of {}.",
        "In one word, what language is spoken in {}?",
        "What language is spoken in {}?",
        "Name the official language of {}.",
        "Which language is the official language of {}?",
        "Fill in the blank: The people of {} speak",
        "What language do people speak in {}?",
        "Fill in the blank: The official language of {} is",
        "Which language is spoken in {}?",
        "Complete the sentence: The main language of {} is",
        "What's the official language of {}?",
        "What is the main language of {}?",
        "The official language of {} is",
        "Which language do people speak in {}?",
        "For a quiz: what is the official language of {}?",
        "Can you tell me the official language of {}?",
        "Name the language that is spoken in {}.",
        "What is the national language of {}?",
        "Fill in the blank: The main language of {} is",
        "Finish the sentence: The official language of {} is",
        "Tell me which language is spoken in {}.",
        "In one word, what is the official language of {}?",
    ),
    _pairs("""
        Brazil = Portuguese
        Austria = German
        Egypt = Arabic
        Iran = Persian
        Angola = Portuguese
        Mozambique = Portuguese
        Ethiopia = Amharic
        Cambodia = Khmer
        Laos = Lao
        Bangladesh = Bengali
        Pakistan = Urdu
        Israel = Hebrew
        Philippines = Filipino
        Jamaica = English
        Haiti = French
        Senegal = French
        Tanzania = Swahili
        Moldova = Romanian
        Cyprus = Greek
        Liechtenstein = German
        Taiwan = Mandarin
        Greenland = Greenlandic
        Suriname = Dutch
        Guyana = English
        Cuba = Spanish
        Chile = Spanish
        Peru = Spanish
        Kosovo = Albanian
        Ghana = English
        Nigeria = English
        Zambia = English
        Mali = French
        Chad = French
        Bhutan = Dzongkha
        Sri Lanka = Sinhala
        Nepal = Nepali
        Afghanistan = Pashto
        Ukraine = Ukrainian
        Somalia = Somali
    """),
)

PLURALS = Kind(
    "plural",
    (
        "What is the plural of '{}'?",
        "Give the plural of {}.",
        "What is the plural form of the word {}?",
        "Tell me the plural of {}.",
        "Write the plural form of {}.",
        "Name the plural of {}.",
        "What's the plural of the word {}?",
        "Complete the sentence: The plural of {} is",
        "Which word is the plural of {}?",
        "Fill in the blank: The plural of {} is",
        "What is the plural form of {}?",
        "In one word, what is the plural of {}?",
        "What's the plural of {}?",
        "The plural of {} is",
        "What is the plural of the noun {}?",
        "Can you tell me the plural of {}?",
        "Please give me the plural form of {}.",
        "For a quiz: what is the plural of {}?",
        "Put the word '{}' into the plural.",
        "Write the plural of '{}'.",
        "Finish the sentence: The plural of {} is",
        "I forgot the plural of {}. What is it?",
        "Complete: The plural form of {} is",
        "Fill in the blank: The plural form of {} is",
    ),
    _pairs("""
        mouse = mice
        tooth = teeth
        ox = oxen
        leaf = leaves
        foot = feet
        goose = geese
        man = men
        woman = women
        person = people
        louse = lice
        wolf = wolves
        knife = knives
        thief = thieves
        sheep = sheep
        deer = deer
        fish = fish
        cactus = cacti
        fungus = fungi
        crisis = crises
        phenomenon = phenomena
        criterion = criteria
        datum = data
        moose = moose
        die = dice
        half = halves
        shelf = shelves
        calf = calves
        elf = elves
        loaf = loaves
        hero = heroes
        potato = potatoes
        series = series
        species = species
        aircraft = aircraft
        index = indices
        oasis = oases
    """),
)

KINDS = (CAPITALS, OPPOSITES, PAST, ARITHMETIC, CATEGORIES, AUTHORS, NUMBERS, SYMBOLS, CURRENCIES, YOUNG, MONTHS, LANGUAGES, PLURALS)
