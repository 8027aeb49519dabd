"""The sounds the reference model knows, and the words it uses for them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Sound:
    """One kind of sound. All words are lower case, because prompts are."""

    name: str
    """Short name, used as a multiple-choice option: `dog bark`."""
    phrase: str
    """Noun phrase with its article, fits after `is there` and `do you hear`: `a dog barking`."""
    sentence: str
    """Whole sentence without its full stop: `a dog is barking`."""
    category: str
    """Group it belongs to: animal, human, nature, household, machine or synthetic."""


_TABLE = """
dog              | dog bark          | a dog barking                 | a dog is barking                    | animal
rooster          | rooster crow      | a rooster crowing             | a rooster is crowing                | animal
pig              | pig grunt         | a pig grunting                | a pig is grunting                   | animal
cow              | cow moo           | a cow mooing                  | a cow is mooing                     | animal
frog             | frog croak        | a frog croaking               | a frog is croaking                  | animal
cat              | cat meow          | a cat meowing                 | a cat is meowing                    | animal
hen              | hen cluck         | a hen clucking                | a hen is clucking                   | animal
insects          | insect buzz       | an insect buzzing             | an insect is buzzing                | animal
sheep            | sheep bleat       | a sheep bleating              | a sheep is bleating                 | animal
crow             | crow caw          | a crow cawing                 | a crow is cawing                    | animal
rain             | rain              | rain falling                  | rain is falling                     | nature
sea_waves        | sea waves         | sea waves rolling             | sea waves are rolling               | nature
crackling_fire   | crackling fire    | a fire crackling              | a fire is crackling                 | nature
crickets         | crickets          | crickets chirping             | crickets are chirping               | animal
chirping_birds   | birdsong          | birds singing                 | birds are singing                   | animal
water_drops      | dripping water    | water dripping                | water is dripping                   | nature
wind             | wind              | wind blowing                  | wind is blowing                     | nature
pouring_water    | pouring water     | water being poured            | water is being poured               | household
toilet_flush     | toilet flush      | a toilet flushing             | a toilet is flushing                | household
thunderstorm     | thunder           | thunder rumbling              | thunder is rumbling                 | nature
crying_baby      | crying baby       | a baby crying                 | a baby is crying                    | human
sneezing         | sneeze            | a person sneezing             | a person is sneezing                | human
clapping         | clapping          | people clapping               | people are clapping                 | human
breathing        | breathing         | a person breathing            | a person is breathing               | human
coughing         | cough             | a person coughing             | a person is coughing                | human
footsteps        | footsteps         | a person walking              | a person is walking                 | human
laughing         | laughter          | a person laughing             | a person is laughing                | human
brushing_teeth   | tooth brushing    | a person brushing teeth       | a person is brushing teeth          | human
snoring          | snoring           | a person snoring              | a person is snoring                 | human
drinking_sipping | sipping           | a person sipping a drink      | a person is sipping a drink         | human
door_wood_knock  | door knock        | a person knocking on a door   | a person is knocking on a door      | household
mouse_click      | mouse click       | a computer mouse clicking     | a computer mouse is clicking        | household
keyboard_typing  | keyboard typing   | a person typing on a keyboard | a person is typing on a keyboard    | household
door_wood_creaks | door creak        | a door creaking               | a door is creaking                  | household
can_opening      | can opening       | a can being opened            | a can is being opened               | household
washing_machine  | washing machine   | a washing machine running     | a washing machine is running        | household
vacuum_cleaner   | vacuum cleaner    | a vacuum cleaner running      | a vacuum cleaner is running         | household
clock_alarm      | alarm clock       | an alarm clock ringing        | an alarm clock is ringing           | household
clock_tick       | clock tick        | a clock ticking               | a clock is ticking                  | household
glass_breaking   | breaking glass    | glass breaking                | glass is breaking                   | household
helicopter       | helicopter        | a helicopter flying           | a helicopter is flying              | machine
chainsaw         | chainsaw          | a chainsaw cutting            | a chainsaw is cutting               | machine
siren            | siren             | a siren wailing               | a siren is wailing                  | machine
car_horn         | car horn          | a car horn honking            | a car horn is honking               | machine
engine           | engine            | an engine idling              | an engine is idling                 | machine
train            | train             | a train passing               | a train is passing                  | machine
church_bells     | church bells      | church bells ringing          | church bells are ringing            | machine
airplane         | airplane          | an airplane flying            | an airplane is flying               | machine
fireworks        | fireworks         | fireworks exploding           | fireworks are exploding             | machine
hand_saw         | hand saw          | a hand saw cutting wood       | a hand saw is cutting wood          | machine
speech           | speech            | a person speaking             | a person is speaking                | human
pure_tone        | steady tone       | a steady tone                 | a steady tone is playing            | synthetic
beeps            | electronic beeps  | a device beeping              | a device is beeping                 | synthetic
rising_sweep     | rising tone       | a tone rising in pitch        | a tone is rising in pitch           | synthetic
falling_sweep    | falling tone      | a tone falling in pitch       | a tone is falling in pitch          | synthetic
warble           | warbling tone     | a tone warbling               | a tone is warbling                  | synthetic
white_noise      | white noise       | white noise hissing           | white noise is hissing              | synthetic
brown_noise      | low rumble        | a low rumble                  | a low rumble is playing             | synthetic
buzz             | electric buzz     | an electric buzz              | an electric buzz is playing         | synthetic
silence          | silence           | silence                       | there is silence                    | synthetic
"""


def _parse(table: str) -> dict[str, Sound]:
    rows = ([cell.strip() for cell in line.split("|")] for line in table.strip().splitlines())
    return {label: Sound(*cells) for label, *cells in rows}


SOUNDS: dict[str, Sound] = _parse(_TABLE)
LABELS: tuple[str, ...] = tuple(SOUNDS)
SYNTHETIC: tuple[str, ...] = tuple(label for label in LABELS if SOUNDS[label].category == "synthetic")


def sound_named_in(text: str) -> str | None:
    """The label of the one sound that `text` names, or None when it names none or several.

    Words inside a longer name do not count: `a train passing` names no rain, `an engine idling` one engine.
    """
    found = {
        (match.start(), match.end(), label)
        for label, sound in SOUNDS.items()
        for words in (sound.sentence, sound.phrase, sound.name)
        for match in re.finditer(rf"\b{re.escape(words)}\b", text.lower())
    }
    named = {
        label
        for start, end, label in found
        if not any(s <= start and end <= e and (s, e) != (start, end) for s, e, _ in found)
    }
    return named.pop() if len(named) == 1 else None
