#!/usr/bin/env python3
"""Writes the sample stream: events.jsonl, truth.json and requests.json beside this file, always the same.

Six invented users, one task each, in three kinds of task. Three of them change their ways half-way,
three do not. truth.json says who and where; nothing but the demo's last table reads it.
"""
import argparse
import datetime
import json
import pathlib
import random

SEED = 2402
BEFORE, AFTER = 24, 22  # events of each user before and after the planted shift
START = datetime.datetime(2026, 1, 5, 8, 0, tzinfo=datetime.timezone.utc)

# --- Films that nobody made ------------------------------------------------------------------------

ADJECTIVES = ["Paper", "Hollow", "Crimson", "Silver", "Borrowed", "Seventh", "Quiet", "Painted",
              "Northern", "Broken", "Golden", "Winter", "Glass", "Wooden", "Distant", "Velvet"]
NOUNS = ["Lighthouse", "Orchard", "Staircase", "Harbour", "Umbrella", "Carousel", "Garden",
         "Letter", "Bridge", "Kitchen", "Meadow", "Clock", "Ferry", "Piano", "Window", "Market"]

# Ways to say a mood: one beginning and one end make a plot.
MOODS = {
    "funny": (["clumsy waiters", "rival clowns", "silly mayors", "bungling burglars"],
              ["swap hats by mistake", "wreck a wedding cake", "lose a runaway goose",
               "carry a joke too far"]),
    "tense": (["hunted spies", "armed kidnappers", "cornered witnesses", "bomb experts"],
              ["race against the timer", "hide from a killer", "hold a train hostage",
               "escape a deadly trap"]),
    "sad": (["grieving widows", "orphaned brothers", "dying soldiers", "lonely fathers"],
            ["say a last farewell", "weep at a funeral", "mourn a lost child",
             "wait for nobody"]),
    "dreamy": (["moonlit dancers", "sleeping sisters", "floating islanders", "cloud painters"],
               ["drift through mirrors", "walk among stars", "follow a singing fog",
                "wander a silent dream"]),
}
ERAS = {"silent age": range(1921, 1929), "fifties": range(1951, 1960),
        "seventies": range(1971, 1980), "nineties": range(1991, 2000)}

SUBJECTS = {
    "horror": ["a cursed harvest", "a haunted nursery", "something under the ice",
               "a house that whispers", "a plague of moths", "the thing in the well"],
    "thriller": ["a missing judge", "a stolen code", "a night train murder",
                 "a double agent", "a perfect alibi", "a ransom gone wrong"],
    "romance": ["two bakers in love", "a summer in Lisbon", "letters that crossed",
                "a second chance", "a shy florist", "a wedding without a groom"],
    "musical": ["a singing postman", "a choir on tour", "tap dancers in debt",
                "an opera below stairs", "a jazz band at sea", "a school for trombones"],
    "comedy": ["a goose in parliament", "the worst hotel", "an accidental chef",
               "rival ice-cream vans", "a very long queue", "twins at one job"],
    "western": ["the last stagecoach", "a sheriff without a gun", "cattle in the snow",
                "a duel at noon", "gold in dry creek", "the railway comes"],
    "war": ["a bridge held too long", "letters from a trench", "the last convoy",
            "a village under siege", "two deserters", "a minefield at dawn"],
    "documentary": ["how bread is made", "the beekeepers of Crete", "a year on the canal",
                    "people who mend clocks", "the oldest ferry", "a town without cars"],
}


def titles(rng):
    """Titles without repetition, in random order."""
    names = [f"The {adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
    rng.shuffle(names)
    return iter(names)


def tag_inputs(rng, count):
    """(input, mood, era) of films; moods and eras equally often and independent of each other."""
    names = titles(rng)
    plots = {mood: [f"{a} {b}" for a in starts for b in ends]
             for mood, (starts, ends) in MOODS.items()}
    for choices in plots.values():
        rng.shuffle(choices)
    cells = []
    while len(cells) < count:
        block = [(mood, era) for mood in MOODS for era in ERAS]
        rng.shuffle(block)
        cells += block
    for mood, era in cells[:count]:
        year = rng.choice(list(ERAS[era]))
        plot = plots[mood].pop()
        yield {"film": f"{next(names)} ({year}): {plot}"}, mood, era


def rating_inputs(rng, count, genres):
    """(input, genre) of films; genres equally often."""
    names = titles(rng)
    cells = []
    while len(cells) < count:
        block = [(genre, turn) for turn in range(2) for genre in genres]
        rng.shuffle(block)
        cells += [genre for genre, _ in block]
    for genre in cells[:count]:
        yield {"film": f"{next(names)}, {genre}: {rng.choice(SUBJECTS[genre])}"}, genre


# --- Messages of an office that does not exist ------------------------------------------------------

TOPICS = {"budget review": "Finance", "invoice check": "Finance", "tax meeting": "Finance",
          "hiring panel": "People", "training day": "People", "welcome lunch": "People",
          "server upgrade": "Systems", "backup test": "Systems", "printer repair": "Systems",
          "garden tour": "Events", "summer picnic": "Events", "choir evening": "Events",
          "truck delivery": "Warehouse", "stock count": "Warehouse", "shelf repair": "Warehouse"}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
# What a message says, and its subject as three kinds of people write it.
ACTIONS = [
    ("Can we move the {topic} to {day}?",
     "move {topic}", "{Topic} Moved to {day}", "Quick note: {topic} now on {day}!"),
    ("The {topic} on {day} is off, sorry about that.",
     "no {topic}", "{Topic} Cancelled on {day}", "Quick note: no {topic} on {day}!"),
    ("Please remember the {topic} this {day}.",
     "{topic} soon", "Reminder of {Topic} on {day}", "Quick note: remember {topic} on {day}!"),
    ("Who is bringing the notes for the {topic} on {day}?",
     "{topic} notes", "Notes Needed for {Topic} on {day}",
     "Quick note: who has notes for {topic}!"),
    ("I will be ten minutes late for the {topic} on {day}.",
     "late for {topic}", "Late Arrival at {Topic} on {day}",
     "Quick note: late for {topic} on {day}!"),
    ("Thank you all for a good {topic} last {day}.",
     "thanks for {topic}", "Thank You for {Topic} on {day}",
     "Quick note: thanks for {topic} on {day}!"),
]


def messages(rng, count):
    """(input, {style: subject}) of messages, no two alike."""
    cells = [(topic, day, action) for topic in TOPICS for day in DAYS for action in ACTIONS]
    for topic, day, (message, terse, formal, cheerful) in rng.sample(cells, count):
        words = {"topic": topic, "Topic": topic.title(), "day": day}
        yield {"message": message.format(**words)}, {
            "terse": terse.format(**words).lower(),
            "formal": f"[{TOPICS[topic]}] " + formal.format(**words),
            "cheerful": cheerful.format(**words)}


# --- The users --------------------------------------------------------------------------------------

CHEN_BEFORE = {"horror": 5, "thriller": 4, "musical": 2, "romance": 1}
CHEN_AFTER = {"horror": 1, "thriller": 2, "musical": 4, "romance": 5}
DINA = {"comedy": 5, "western": 4, "documentary": 2, "war": 1}


def rated(rng, likes, genre):
    """A rating by taste, one off in one case of ten."""
    score = likes[genre]
    if rng.random() < .1:
        score += rng.choice([-1, 1])
    return min(5, max(1, score))


def stream_of(user, rng, count, requests):
    """(input, output before, output after) for `count` events and then `requests` requests.

    For the requests the outputs are what the user would do without a slip.
    """
    total = count + requests
    if user in ("ada", "bruno"):
        for item, mood, era in tag_inputs(rng, total):
            yield item, mood, era if user == "ada" else mood
    elif user in ("chen", "dina"):
        before, after = (CHEN_BEFORE, CHEN_AFTER) if user == "chen" else (DINA, DINA)
        for number, (item, genre) in enumerate(rating_inputs(rng, total, list(before))):
            slips = rng if number < count else random.Random(1)  # whose first draw is no slip
            state = slips.getstate()
            old = rated(slips, before, genre)
            slips.setstate(state)
            yield item, old, rated(slips, after, genre)
    else:
        for item, subjects in messages(rng, total):
            if user == "emil":
                yield item, subjects["terse"], subjects["formal"]
            else:
                yield item, subjects["cheerful"], subjects["cheerful"]


USERS = {
    "ada": ("film_tag", "tags films by mood, then by era"),
    "bruno": ("film_tag", None),
    "chen": ("film_rating", "loves horror and thrillers, then romance and musicals"),
    "dina": ("film_rating", None),
    "emil": ("email_subject", "writes terse lower-case subjects, then formal ones with a team's name"),
    "farah": ("email_subject", None),
}
STEADY = {
    "bruno": "tags films by mood throughout",
    "dina": "loves comedies and westerns throughout",
    "farah": "writes cheerful quick notes throughout",
}
REQUESTS = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    folder = parser.parse_args().out
    events, shifts, requests = [], [], []
    for place, (user, (task, change)) in enumerate(USERS.items()):
        rng = random.Random(SEED * 100 + place)
        seen = set()
        for number, (item, before, after) in enumerate(
                stream_of(user, rng, BEFORE + AFTER, REQUESTS)):
            text = next(iter(item.values()))
            assert text not in seen and len(text.split()) <= 15, text
            seen.add(text)
            if number >= BEFORE + AFTER:
                requests.append({"user_id": user, "task": task, "input": item,
                                 "expected_before": str(before), "expected_after": str(after)})
                continue
            # Two events a day for everyone, at a user's own random minute.
            at = START + datetime.timedelta(hours=12 * number, minutes=rng.randrange(600))
            event = {"event_id": f"sample-{user}-{number + 1:02}", "user_id": user, "task": task,
                     "occurred_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "input": item,
                     "output": before if number < BEFORE else after}
            events.append(event)
            if change and number == BEFORE:
                shifts.append({"user_id": user, "task": task, "event_id": event["event_id"],
                               "description": change})
    events.sort(key=lambda event: (event["occurred_at"], event["event_id"]))

    def write(name, text):
        (folder / name).write_text(text, encoding="utf-8")

    write("events.jsonl", "".join(json.dumps(event) + "\n" for event in events))
    write("truth.json", json.dumps(
        {"seed": SEED, "shifts": shifts,
         "steady": [{"user_id": user, "task": USERS[user][0], "description": text}
                    for user, text in STEADY.items()]}, indent=2) + "\n")
    write("requests.json", json.dumps({"requests": requests}, indent=2) + "\n")


if __name__ == "__main__":
    main()
