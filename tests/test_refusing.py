"""The tests' own check of messages: what it takes for named, and that it can fail."""

import warnings

import pytest
from refusing import lacks, refuses, warns

MESSAGE = (
    "Width must be at least 0.5 and no whole tensor, got (2,  3, 32, 32) of A-LRN; build the net "
    "with image_size=… or vgglib.vgg(name), see ./run.json, --resume, 1,000 maps of 14×14 to 7."
)


@pytest.mark.parametrize(
    "token",
    ["width", "WIDTH", "0.5", "(2, 3, 32, 32)", "(2,3,32,32)", "image_size=", "image_size", "A-LRN",
     "vgglib.vgg", "run.json", "--resume", "1,000", "14×14", "7", "vgglib.vgg(name)"],
)  # fmt: skip
def test_whole_words_are_found(token):
    assert lacks(MESSAGE, [token]) == []


@pytest.mark.parametrize(
    "token",
    ["wid", "5", "0", "(2, 3, 32, 320)", "size=", "A", "LRN", "vgg", "run", "resume",
     "1", "000", "14", "-7", "(3, 32, 32)", "vgglib"],
)  # fmt: skip
def test_a_part_of_a_longer_word_or_number_is_not_it(token):
    assert lacks(MESSAGE, [token]) == [token]


def test_a_refusal_fails_with_the_message_and_what_it_lacks():
    with refuses(ValueError, got=31, accepts=(32, int), remedy="size=") as raised:
        raise ValueError("got 31, an int of 32 is accepted: size=32")
    assert raised.type is ValueError
    with pytest.raises(AssertionError) as failed, refuses(ValueError, got=31, accepts=(3, 32)):
        raise ValueError("got 31, 32 is accepted")
    assert "lacks ['3']" in str(failed.value) and "32 is accepted" in str(failed.value)
    with pytest.raises(TypeError), refuses(ValueError, got=31):
        raise TypeError("31")
    with pytest.raises(pytest.fail.Exception), refuses(ValueError, got=31):
        pass


def test_a_warning_fails_with_the_nearest_message():
    with warns(UserWarning, got="lr", remedy="seed=") as caught:
        warnings.warn("another", stacklevel=1)
        warnings.warn("lr: seed=1", stacklevel=1)
    assert len(caught) == 2
    with pytest.raises(AssertionError) as failed, warns(UserWarning, got="lr", accepts=3):
        warnings.warn("another", stacklevel=1)
        warnings.warn("lr 31", stacklevel=1)
    assert "lacks ['3']" in str(failed.value) and "lr 31" in str(failed.value)


@pytest.mark.parametrize("given", [{}, {"got": ""}, {"got": (), "accepts": (1, " ")}])
def test_a_check_of_nothing_is_none(given):
    for check in (refuses, warns):
        with pytest.raises(ValueError), check(UserWarning, **given):
            raise UserWarning("never reached")
