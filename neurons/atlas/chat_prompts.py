"""Prompts for the chat part of the corpus: templates times topics, drawn deterministically. Knows nothing of models."""

from __future__ import annotations

import random

from neurons.types import Message

TEMPLATES: dict[str, tuple[str, ...]] = {
    "explain": (
        "Explain {thing} to a ten-year-old.",
        "What is {thing}?",
        "How does {thing} work?",
        "Give me three interesting facts about {thing}.",
        "Why is {thing} important?",
        "What are the advantages and disadvantages of {thing}?",
        "Describe {thing} in two sentences.",
        "Write a short introduction to {thing} for a textbook.",
        "What is a common misunderstanding about {thing}?",
        "Compare {thing} with {thing2}.",
        "Who discovered or invented {thing}, and when?",
        "Make a short quiz with answers about {thing}.",
        "List the steps that explain {thing} from the beginning.",
        "Summarise the history of {thing}.",
        "What questions are still open about {thing}?",
    ),
    "place": (
        "What is the capital of {country}?",
        "Tell me about the history of {city}.",
        "Plan a three-day trip to {city}.",
        "What food is {country} famous for?",
        "Which languages are spoken in {country}?",
        "What is the climate of {country} like?",
        "How do I get from {city} to {city2}?",
        "Describe a morning in {city}.",
        "Name five rivers or mountains in {country}.",
        "Which countries are the neighbours of {country}?",
        "What is the currency of {country} and how is it used?",
        "Write a postcard from {city} to a friend.",
    ),
    "code": (
        "Write a {language} function that {task}.",
        "Write a unit test for a {language} function that {task}.",
        "Explain this error in {language}: index out of range.",
        "How do I {task} in {language}?",
        "What is the difference between a list and a dictionary in {language}?",
        "Write an SQL query that finds the ten best customers of a shop.",
        "Refactor a {language} program that {task} so that it is easier to read.",
        "Write a regular expression that matches an email address and explain it.",
        "Give me a short HTML page with a heading, a table and a link about {thing}.",
        "Write a bash script that {task}.",
        "Write a JSON document describing {thing}.",
        "What does a pointer do in C?",
    ),
    "maths": (
        "What is {n1} + {n2}?",
        "What is {n1} times {n2}? Show your steps.",
        "A train travels {n1} km in {n3} hours. What is its average speed?",
        "If a shirt costs {n1} dollars and is reduced by {n3} percent, what is the new price?",
        "Solve the equation {n3}x + {n1} = {n2}.",
        "What is the area of a circle with radius {n3}?",
        "Convert {n1} miles to kilometres.",
        "List the first ten prime numbers after {n3}.",
        "What is {n3} percent of {n2}?",
        "Explain what a {mathword} is, with an example.",
        "I have {n3} apples and give away 2. How many are left?",
        "Write {n1} in Roman numerals and in binary.",
    ),
    "write": (
        "Write a short story about {character} who {plot}.",
        "Write a poem about {thing}.",
        "Write a haiku about {season}.",
        "Continue the story: The door opened and {character} {plot}.",
        "Write a dialogue between {character} and {character2}.",
        "Write a fairy tale that begins with 'Once upon a time' and has {character} in it.",
        "Write the first paragraph of a detective novel set in {city}.",
        "Write a song verse about {emotion}.",
        "Tell me a joke about {character}.",
        "Write a diary entry of {character} on a day of {emotion}.",
        "Give me five titles for a novel about {character} who {plot}.",
        "Write a speech that {character} gives at a wedding.",
    ),
    "letter": (
        "Write an email to my boss asking for {request}.",
        "Write a formal letter of complaint about {problem}.",
        "Write a cover letter for a job as {job}.",
        "Write a thank-you note to {person}.",
        "Write an invitation to a party for {person}.",
        "Write a polite reply that declines {request}.",
        "Write a text message to {person} saying that I will be late.",
        "Write a product description for {product}.",
        "Write a short news report about {problem}.",
        "Write a review of {product}.",
    ),
    "advice": (
        "How can I {goal}?",
        "Give me five tips to {goal}.",
        "I feel {emotion} today. What can I do?",
        "What should I cook with {food} and {food2}?",
        "Give me a recipe for {food} soup.",
        "How do I talk to {person} about {problem}?",
        "Make a weekly plan that helps me {goal}.",
        "What are the first signs of {illness}, and when should I see a doctor?",
        "Is it healthy to eat {food} every day?",
        "What should I wear in {season}?",
        "My neighbour has {problem}. What are my options?",
        "Which books should I read if I want to {goal}?",
        "What does a typical day of {job} look like?",
    ),
    "language": (
        "Translate 'I would like a cup of coffee, please' into {tongue}.",
        "How do you say 'good morning' and 'thank you' in {tongue}?",
        "What is the plural of '{noun}'?",
        "Give me ten synonyms of '{adjective}'.",
        "Use the word '{noun}' in three sentences.",
        "Correct the grammar: 'she don't likes {noun}s because they is {adjective}.'",
        "Rewrite in the past tense: 'The {noun} runs to the market and buys bread.'",
        "What rhymes with '{noun}'?",
        "Where does the word '{noun}' come from?",
        "Rewrite this more politely: 'Give me the {noun} now!'",
        "Put these words in alphabetical order: {noun}, {adjective}, {food}, {city}.",
        "Is the sentence 'The {adjective} {noun} made me feel {emotion}' positive or negative?",
        "What is the opposite of '{adjective}'?",
    ),
    "work": (
        "Summarise this text: {passage}",
        "List the main points of this text as bullets: {passage}",
        "Who and what are mentioned in this text? {passage}",
        "Write three questions about this text: {passage}",
        "Rewrite this text for a child: {passage}",
        "Give this text a title: {passage}",
        "What happens next? {passage}",
        "Answer with yes or no and explain: is {thing} older than {thing2}?",
        "Classify {food}, {noun}, {city} and {thing} into groups.",
        "Make a table with the columns name, use and price for {product}, {food} and {thing}.",
        "Brainstorm ten ideas for a school project on {thing}.",
        "Write an outline of an essay about {thing}.",
        "Argue for and against: everybody should {goal}.",
        "What would {person} say about {thing}?",
    ),
    "fact": (
        "Who was {figure}?",
        "When did {event} happen?",
        "What caused {event}?",
        "What is {figure} best known for?",
        "Name three works or deeds of {figure}.",
        "How did {event} change daily life?",
        "What do {animal}s eat, and where do they live?",
        "How long does a {animal} live?",
        "How many legs does a {animal} have?",
        "What colour is a {animal}?",
        "What sound does a {animal} make?",
        "What is the chemical symbol of {element}, and what is it used for?",
        "Which is bigger, a {animal} or a {animal2}?",
        "Which planet is closest to the sun?",
        "What year came {n3} years after {event}?",
    ),
    "talk": (
        "Hi!",
        "Hello, who are you?",
        "Good evening. How are you today?",
        "Can you help me with {goal2}?",
        "Tell me something I do not know.",
        "What can you do?",
        "Do you have feelings?",
        "I just {did}. What do you think?",
        "Let's play a game about {animal}s.",
        "Pretend to be {character} and greet me.",
        "Thank you for your help!",
        "I disagree: {thing} is not important.",
        "What is your favourite {noun}?",
        "Recommend a film, a book and a song about {emotion}.",
        "Let us talk about {thing}.",
    ),
}

SLOTS: dict[str, tuple[str, ...]] = {
    "thing": (
        "photosynthesis", "gravity", "democracy", "the water cycle", "inflation", "a black hole", "evolution", "the immune system", "electricity",
        "machine learning", "the internet", "a volcano", "the stock market", "jazz music", "the human heart", "climate change", "a rainbow", "DNA",
        "the printing press", "Buddhism", "chess", "football", "the moon", "a computer virus", "the Roman Empire", "plastic", "bread", "a contract",
        "insulin", "an earthquake", "the French language", "a bicycle", "cloud computing", "poetry", "a vaccine", "the speed of light", "copyright",
        "a glacier", "renewable energy", "the atom", "a camera", "the alphabet", "tea", "a court of law", "sleep", "honey", "a bank loan", "encryption",
        "the Olympic Games", "a symphony", "recycling", "a telescope", "the nervous system", "a novel", "taxes", "opera", "a database", "wine",
        "the periodic table", "meditation", "a satellite", "the brain", "cotton", "a bridge", "the calendar", "antibiotics", "soil", "a magnet",
    ),
    "country": (
        "France", "Brazil", "Japan", "Kenya", "Turkey", "Canada", "Australia", "Myanmar", "Peru", "Egypt", "Norway", "India", "Mexico", "Poland", "Vietnam",
        "South Africa", "Spain", "New Zealand", "Iran", "Greece", "Nigeria", "China", "Argentina", "Ukraine", "Morocco", "Iceland", "Indonesia", "Germany",
    ),
    "city": (
        "Paris", "Tokyo", "Nairobi", "Istanbul", "New York", "Rome", "Mumbai", "Lisbon", "Sydney", "Cairo", "Lima", "Prague", "Chicago", "Seoul", "Vienna",
        "London", "Mexico City", "Berlin", "Toronto", "Bangkok", "Dublin", "Moscow", "San Francisco", "Athens", "Havana", "Boston", "Amsterdam",
    ),
    "language": ("Python", "JavaScript", "Java", "C", "Rust", "Go", "C++", "TypeScript", "Ruby", "R", "PHP", "Swift"),
    "task": (
        "reverses a string", "sorts a list of numbers", "counts the words of a file", "checks whether a number is prime", "reads a CSV file",
        "computes the factorial of n", "removes duplicates from a list", "sends an HTTP request", "finds the largest value in an array",
        "converts Celsius to Fahrenheit", "prints the Fibonacci numbers", "merges two dictionaries", "validates a password", "renames all files in a folder",
        "parses a date", "searches a binary tree", "rounds a number to two decimals", "opens a file and handles errors", "shuffles a deck of cards",
    ),
    "mathword": ("derivative", "matrix", "prime number", "fraction", "logarithm", "vector", "standard deviation", "triangle", "proof", "set", "probability"),
    "character": (
        "a lonely dragon", "an old sailor", "a young doctor", "a talking cat", "a robot", "the king's daughter", "a thief", "two brothers", "a shy teacher",
        "a soldier", "a wizard", "a farmer", "a little girl named Mia", "a detective", "an astronaut", "a baker", "the mayor", "a ghost", "a queen", "a wolf",
    ),
    "plot": (
        "finds a map", "loses everything", "falls in love", "travels through time", "must keep a secret", "learns to swim", "wins the lottery",
        "gets lost in the forest", "discovers a hidden door", "saves a village", "forgets their own name", "builds a ship", "meets a stranger on a train",
    ),
    "season": ("spring", "summer", "autumn", "winter", "the rain", "the sea", "the night", "snow", "the first day of school", "the desert"),
    "emotion": ("happiness", "grief", "anger", "hope", "fear", "jealousy", "boredom", "pride", "loneliness", "love", "stress", "gratitude", "sadness"),
    "request": (
        "a day off", "a pay rise", "a meeting next Tuesday", "a letter of recommendation", "a refund", "more time for the report", "a new laptop",
        "an appointment at 10:30", "help with moving", "permission to work from home",
    ),
    "problem": (
        "a broken washing machine", "noise at night", "a late train", "a flooded cellar", "a lost parcel", "a power cut", "high rent", "a barking dog",
        "a bank error", "a cancelled flight", "bad internet", "a leaking roof", "bullying at school", "an unpaid invoice", "a car accident", "a fire",
    ),
    "job": ("a nurse", "a software engineer", "a chef", "a lawyer", "a pilot", "a gardener", "a journalist", "a teacher", "an electrician", "a librarian", "a judge"),
    "person": (
        "my grandmother", "my teacher", "a close friend", "my neighbour", "a new colleague", "my sister", "a customer", "the landlord", "my son", "my wife",
    ),
    "product": ("a coffee machine", "a pair of running shoes", "a phone", "a tent", "a guitar", "headphones", "a backpack", "an electric car", "a lamp", "soap"),
    "goal": (
        "learn Spanish", "save money", "sleep better", "run a marathon", "write a novel", "find a job", "eat less sugar", "start a garden", "make friends",
        "stop smoking", "prepare for an exam", "use less energy", "learn to draw", "lose weight", "speak in public", "raise a puppy", "invest wisely",
    ),
    "goal2": ("my homework", "a recipe", "a poem", "a crossword", "my essay", "a budget", "my garden", "a birthday party", "a bug in my code", "my taxes"),
    "food": ("rice", "chicken", "tomatoes", "chocolate", "potatoes", "fish", "eggs", "lentils", "cheese", "mushrooms", "apples", "beef", "carrots", "noodles", "onions"),
    "illness": ("the flu", "diabetes", "asthma", "a heart attack", "depression", "measles", "a migraine", "an allergy", "high blood pressure", "anaemia"),
    "tongue": ("French", "Spanish", "German", "Italian", "Japanese", "Portuguese", "Dutch", "Latin", "Swedish", "Russian"),
    "noun": (
        "child", "river", "mouse", "window", "leaf", "mirror", "horse", "shoe", "castle", "knife", "story", "city", "box", "engine", "garden", "cloud", "ship",
        "letter", "teacher", "bird",
    ),
    "adjective": ("happy", "cold", "ancient", "brave", "small", "bright", "lazy", "strange", "expensive", "quiet", "angry", "smooth", "clever", "empty"),
    "figure": (
        "Marie Curie", "Albert Einstein", "William Shakespeare", "Cleopatra", "Mahatma Gandhi", "Leonardo da Vinci", "Isaac Newton", "Napoleon Bonaparte",
        "Nelson Mandela", "Charles Darwin", "Mozart", "Abraham Lincoln", "Ada Lovelace", "Julius Caesar", "Jane Austen", "Galileo Galilei", "Pablo Picasso",
        "Martin Luther King", "Queen Victoria", "Alexander the Great", "Confucius", "Frida Kahlo",
    ),
    "event": (
        "the French Revolution", "the First World War", "the moon landing", "the fall of the Berlin Wall", "the Black Death", "the invention of the telephone",
        "the sinking of the Titanic", "the Great Depression", "the discovery of America", "the American Civil War", "the Chernobyl disaster",
        "the signing of Magna Carta", "the Industrial Revolution", "the end of apartheid",
    ),
    "animal": ("dog", "cat", "elephant", "whale", "bee", "penguin", "snake", "spider", "horse", "owl", "tiger", "frog", "shark", "camel", "rabbit", "butterfly"),
    "element": ("gold", "iron", "oxygen", "helium", "carbon", "silver", "mercury", "sodium", "uranium", "copper", "lead", "zinc"),
    "did": (
        "finished a marathon", "bought a house", "lost my keys", "baked my first bread", "passed my exam", "broke my arm", "adopted a cat", "quit my job",
        "saw a shooting star", "moved to another country",
    ),
    "passage": (
        "The old lighthouse had not been lit for twenty years. One night in March, the fishermen saw its beam again.",
        "Water boils at 100 degrees Celsius at sea level. On a high mountain the pressure is lower, so it boils sooner.",
        "Anna sold her bicycle for 80 euros and bought a second-hand guitar. A week later she played on the street for the first time.",
        "The council voted 7 to 4 on Monday to close the bridge for repairs. Shop owners fear that customers will stay away until summer.",
        "Bees dance to tell each other where flowers are. The angle of the dance shows the direction, and its length the distance.",
        "The company reported a loss of $2.4 million in the third quarter, compared with a profit of $1.1 million a year earlier.",
        "Dr. Patel told the patient to take one tablet twice a day, after meals, and to come back if the fever did not fall.",
        "In 1804 the expedition left St. Louis with about forty men, three boats and enough flour for a winter.",
        "The tenant shall pay the rent on the first day of each month. If the rent is late, the landlord may charge a fee.",
        "My brother says that cats are smarter than dogs. I told him that our dog can open the fridge.",
    ),
}

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a patient teacher.",
    "Answer briefly.",
    "You are a pirate. Stay in character.",
    "You are an expert programmer. Answer with code.",
    "You write in the style of an old novel.",
    "You are a cautious doctor.",
)

FOLLOW_UPS = (
    "Can you make that shorter?", "Are you sure?", "Give me an example.", "Why?", "Thanks! Tell me more.", "Explain that in simpler words.",
    "What about {thing}?", "Write it as a list.", "I do not understand.", "How would {person} see it?", "Now do the same for {thing2}.",
)


def draw_prompts(count: int, *, seed: int = 0) -> list[tuple[str, tuple[Message, ...], str | None]]:
    """`count` prompts, the same for the same seed: (category, messages, follow-up question or None).

    One in eight has a system message of its own, one in six a follow-up for a second turn. Categories take turns, so each has the same share.
    """
    rng = random.Random(seed)
    categories = sorted(TEMPLATES)
    seen: set[str] = set()
    prompts: list[tuple[str, tuple[Message, ...], str | None]] = []
    while len(prompts) < count:
        category = categories[len(prompts) % len(categories)]
        for _attempt in range(50):
            text = _fill(rng.choice(TEMPLATES[category]), rng)
            if text not in seen:
                break
        seen.add(text)
        system = (Message("system", rng.choice(SYSTEMS)),) if rng.random() < 0.125 else ()
        follow_up = _fill(rng.choice(FOLLOW_UPS), rng) if rng.random() < 1 / 6 else None
        prompts.append((category, (*system, Message("user", text)), follow_up))
    return prompts


def _fill(template: str, rng: random.Random) -> str:
    values = {slot: rng.choice(choices) for slot, choices in SLOTS.items()}
    for slot in ("thing", "city", "character", "food", "animal"):
        values[slot + "2"] = rng.choice([choice for choice in SLOTS[slot] if choice != values[slot]])
    values.update(n1=str(rng.randint(11, 99)), n2=str(rng.randint(100, 999)), n3=str(rng.randint(3, 20)))
    return template.format_map(values)
