"""Whatever is put in: it works, or vgglib says at once, in words of its own, what it takes."""

import io
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

import vgglib
from vgglib import LRN, Config, Conv, Recipe, augment, load_run, load_weights, vgg
from vgglib.data import Data, ImageSet
from vgglib.evaluate.centre import read_image
from vgglib.train.checkpoint import CheckpointError

PACKAGE = Path(vgglib.__file__).parent
LIMIT = 1.0  # seconds until an error has to be there

common = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
numbers = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([0.5, 1.0, 2**40, -(2**70), float("nan"), float("inf"), True, np.int64(8)]),
    st.floats(-2, 2),
)
junk = st.one_of(
    numbers, st.none(), st.text(max_size=4), st.tuples(), st.lists(numbers, max_size=3)
)


@contextmanager
def works_or_says_why(*errors):
    """Passes, or one of the errors, raised by vgglib's own code within the limit."""
    start = time.process_time()
    try:
        yield
    except errors as error:
        frames = traceback.extract_tb(error.__traceback__)
        assert PACKAGE in Path(frames[-1].filename).parents, "from the depths"
        assert len(str(error)) > 15 and time.process_time() - start < LIMIT


def layers(part):
    conv = st.builds(lambda *values: ("conv", values), part, part)
    lrn = st.just(("lrn", ()))
    return st.lists(st.one_of(conv, conv, lrn), max_size=3)


def net_of(config, **options):
    """A net that takes no memory, and the scores' shape of one image."""
    with torch.device("meta"):
        net = vgg(config, init=None, **options)
        return net, net.eval()(torch.zeros(1, 3, net.image_size, net.image_size)).shape


@common
@given(st.lists(layers(junk), max_size=3), junk)
@example([[("conv", (4, 3))]], (8,))
def test_configurations(stages, hidden):
    with works_or_says_why(ValueError, TypeError):
        made = tuple(
            tuple(Conv(*values) if kind == "conv" else LRN() for kind, values in stage)
            for stage in stages
        )
        config = Config("own", made, hidden=hidden)
        assert net_of(config, image_size=32, num_classes=10)[1] == (1, 10)
        assert len(vgglib.anatomy(config, 32))


OPTIONS = ("num_classes", "image_size", "width", "batch_norm", "dropout")


@common
@given(st.dictionaries(st.sampled_from(OPTIONS), junk, min_size=1, max_size=3))
@example({"image_size": 33, "width": 0.1})
@example({"image_size": 2**40})
@example({"width": 1e300})
@example({"num_classes": 2**62})
@example({"num_classes": True})
def test_options_of_a_net(options):
    with works_or_says_why(ValueError, TypeError):
        net, shape = net_of("A", **options)
        assert shape == (1, net.num_classes)


@common
@given(st.one_of(junk, st.sampled_from(["a", "VGG16", "vgg16_bn_bn", "E ", "vgg11_bn"])), junk)
def test_names_of_nets_and_sizes(name, size):
    with works_or_says_why(ValueError, TypeError):
        assert len(vgglib.anatomy(name, size))


@pytest.fixture(scope="module")
def tiny():
    """A net and eight images, for a step of training."""
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    labels = ImageSet(images, torch.arange(8) % 2)
    config = Config("tiny", ((Conv(2),),) * 3, hidden=())
    return config, Data("tiny", labels, labels, ("a", "b"), "made here")


FIELDS = sorted(set(Recipe.__dataclass_fields__) - {"epochs"})
WORDS = st.sampled_from(["plateau", "one-cycle", "constant", "mean", "mean-std", "fp32", "bf16"])
VALUES = st.one_of(
    junk, WORDS, st.booleans(), st.tuples(st.integers(200, 300), st.integers(224, 300))
)


@common
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3))
def test_recipes(tiny, changes):
    config, data = tiny
    with works_or_says_why(ValueError, TypeError):
        recipe = Recipe.small(epochs=1, **changes)
        net = vgg(config, num_classes=2, image_size=32)
        assert len(vgglib.train(net, data, recipe, progress=False)) == 1


@common
@given(st.lists(st.text(alphabet="lr=0.5,()[]e -_'abpdsN", max_size=14), min_size=1, max_size=3))
@example(["lr=" + "(" * 5000])
@example(["lr=1e999"])
def test_settings_of_a_command_line(settings):
    with works_or_says_why(ValueError):
        Recipe().with_settings(settings)


@common
@given(junk, junk, st.booleans(), junk)
@example((40, 50), 32, True, (1.0, 2.0, 3.0))
def test_crops(scale, crop, flip, mean):
    assume(crop != 2**40)  # a crop may have any size that memory holds
    photo = Image.fromarray(np.arange(30 * 50 * 3, dtype=np.uint8).reshape(30, 50, 3))
    for maker in (augment.training_crop, augment.centre_crop):
        options = {"flip": flip} if maker is augment.training_crop else {}
        with works_or_says_why(ValueError, TypeError):
            crops = maker(scale, crop, mean=mean, **options)
            assert crops(photo).shape == (3, crop, crop)


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny):
    """Each kind of file that vgglib reads, intact: name → bytes."""
    config, data = tiny
    folder = tmp_path_factory.mktemp("written")
    net = vgg(config, num_classes=2, image_size=32)
    torch.save(net.state_dict(), folder / "weights.pth")
    save_file(net.state_dict(), folder / "weights.safetensors")
    vgglib.train(
        net, data, Recipe.small(epochs=1, schedule="constant"), progress=False, out=folder / "run"
    )
    (last,) = (folder / "run").glob("*last*")
    contents = {p.name: p.read_bytes() for p in folder.glob("weights.*")}
    return contents | {f"run{last.suffix}": last.read_bytes()}


def damaged(content, where, how):
    """A file cut at a place, with a byte changed there, or with a few bytes lost."""
    at = int(where * (len(content) - 1))
    if how == "cut":
        return content[:at]
    if how == "lost":
        return content[:at] + content[at + 3 :]
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


PLACES = st.floats(0, 1)
WAYS = st.sampled_from(["cut", "changed", "lost"])


@common
@given(st.sampled_from(["weights.pth", "weights.safetensors"]), PLACES, WAYS)
def test_damaged_weights(tiny, written, tmp_path, name, where, how):
    path = tmp_path / name
    path.write_bytes(damaged(written[name], where, how))
    net = vgg(tiny[0], num_classes=2, image_size=32)
    with works_or_says_why(ValueError):
        load_weights(net, path)  # a changed byte of a number is still a number
        assert all(torch.is_tensor(value) for value in net.state_dict().values())


@common
@given(PLACES, WAYS)
def test_damaged_checkpoints(written, tmp_path, where, how):
    (name,) = (name for name in written if name.startswith("run"))
    path = tmp_path / name
    path.write_bytes(damaged(written[name], where, how))
    with works_or_says_why(ValueError, OSError, CheckpointError):
        assert load_run(path).num_classes == 2


@common
@given(st.binary(max_size=60))
def test_files_of_something_else(tiny, tmp_path, content):
    net = vgg(tiny[0], num_classes=2, image_size=32)
    for suffix in (".pth", ".safetensors", ".txt"):
        path = tmp_path / f"file{suffix}"
        path.write_bytes(content)
        for read in (lambda p: load_weights(net, p), load_run):
            with works_or_says_why(ValueError, OSError):
                read(path)
                pytest.fail(f"{content!r} was read as {suffix}")


@common
@given(PLACES, WAYS, st.sampled_from(["jpeg", "png"]))
def test_damaged_photos(where, how, kind):
    """Read, or an OSError that names the image: what training tells its user."""
    photo = io.BytesIO()
    Image.effect_noise((40, 30), 50).convert("RGB").save(photo, kind)
    content = io.BytesIO(damaged(photo.getvalue(), where, how))

    class Photos(torch.utils.data.Dataset):
        def __getitem__(self, index):
            return Image.open(content), 1

    with works_or_says_why(OSError):
        image, label = read_image(Photos(), 0)
        assert image.mode == "RGB" and label == 1
