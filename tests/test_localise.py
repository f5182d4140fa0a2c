"""Localisation (appendix A): boxes against torchvision.ops, merging against a slow loop."""

import math

import pytest
import torch
from refusing import refuses
from torchvision.ops import box_convert, box_iou

import vgglib
from vgglib import Config, Conv, localise
from vgglib.data import ImageSet
from vgglib.localise import merging

# A regressor's windows: crops of 28 px every 4 px.
TINY = Config("tiny", ((Conv(4),), (Conv(8),)), hidden=(16,))
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 60.0, 60.0)


def random_boxes(count, size=64, seed=0):
    """Boxes (count, 4) of 1 to size/2 pixels a side, inside a square."""
    draws = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    sides = 1 + draws[:, 2:] * (size / 2 - 1)
    corners = draws[:, :2] * (size - sides)
    return torch.cat([corners, corners + sides], dim=1)


def tiny_net(classes=3):
    torch.manual_seed(0)
    return vgglib.vgg(TINY, num_classes=classes, image_size=28, init="he", dropout=0.0).eval()


@pytest.fixture(scope="module")
def scenes():
    """40 scenes of 48 px, made from the package's own images."""
    items = vgglib.data.load("fashion-mnist-mini").train
    photos = list(vgglib.data.photos().values())
    return localise.compose(items, photos, 40, size=48, seed=3)


# Boxes ------------------------------------------------------------------------------------


def test_a_code_is_centre_width_height_and_comes_back():
    boxes = torch.tensor([[0.0, 0.0, 56.0, 28.0], [-14.0, 7.0, 14.0, 63.0]])
    codes = localise.encode(boxes, 56)
    assert codes.tolist() == [[0.5, 0.25, 1.0, 0.5], [0.0, 0.625, 0.5, 1.0]]
    boxes = random_boxes(100)
    torch.testing.assert_close(
        localise.encode(boxes, 56) * 56, box_convert(boxes, "xyxy", "cxcywh")
    )
    torch.testing.assert_close(localise.decode(localise.encode(boxes, 56), 56), boxes)


def test_a_negative_width_is_an_empty_box():
    box = localise.decode(torch.tensor([[0.5, 0.5, -0.2, 0.4]]), 10)
    torch.testing.assert_close(box, torch.tensor([[5.0, 3.0, 5.0, 7.0]]))
    assert localise.iou(box, torch.tensor([[0.0, 0.0, 10.0, 10.0]])).tolist() == [0]


def test_iou_is_torchvisions_row_by_row():
    a, b = random_boxes(600, seed=1), random_boxes(600, seed=2)
    torch.testing.assert_close(localise.iou(a, b), box_iou(a, b).diagonal())


BOX_CONVERT = "torchvision.ops.box_convert"


@pytest.mark.parametrize(
    ("boxes", "kind", "got", "accepts", "remedy"),
    [
        (torch.tensor([[1, 2, 3, 4]]), TypeError, "torch.int64", "floats", "torch.as_tensor"),
        ([[1.0, 2.0, 3.0, 4.0]], TypeError, list, "floats", "torch.as_tensor"),
        (torch.rand(3, 5), ValueError, "(3, 5)", "(N, 4)", ()),
        (
            torch.tensor([[0.0, 0, 1, 1], [2, 2, 1, 3]]),
            ValueError, ("row 1", "[2.0, 2.0, 1.0, 3.0]"), "x1 < x2", BOX_CONVERT,
        ),
        (
            torch.tensor([[0.0, 0, 1, math.nan]]),
            ValueError, ("row 0", "[0.0, 0.0, 1.0, nan]"), "finite", BOX_CONVERT,
        ),
        (  # centre, width, height taken for corners
            torch.tensor([[30.0, 30.0, 10.0, 10.0]]),
            ValueError, ("row 0", "[30.0, 30.0, 10.0, 10.0]"), "x1 < x2", BOX_CONVERT,
        ),
    ],
)  # fmt: skip
def test_wrong_boxes_are_named(boxes, kind, got, accepts, remedy):
    with refuses(kind, got=got, accepts=accepts, remedy=remedy):
        localise.encode(boxes, 56)


def test_the_error_counts_boxes_above_one_half():
    true = torch.tensor([[0.0, 0, 10, 10]]).repeat(4, 1)
    boxes = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5.1], [20, 20, 30, 30]]
    )  # IoU 1, exactly 0.5 (which is not above), 0.51, 0
    assert localise.error(boxes, true) == 0.5
    assert localise.error(boxes, true, threshold=0.9) == 0.75


def test_the_error_makes_no_float64(monkeypatch):
    """Apple's GPUs have none."""
    monkeypatch.setattr(torch.Tensor, "double", None)
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 9.0, 9.0]])
    assert localise.error(boxes, boxes.roll(1, 0)) == 1 and localise.error(boxes, boxes) == 0


def test_a_box_of_the_wrong_class_does_not_count():
    true, classes = torch.tensor([[0.0, 0, 10, 10]]).repeat(3, 1), torch.tensor([0, 1, 2])
    boxes = true[:, None].repeat(1, 2, 1)
    boxes[0, 0] += 20  # the right class has the wrong box
    labels = torch.tensor([[0, 1], [0, 1], [0, 1]])
    assert localise.error(boxes, true, labels, classes) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("arguments", "got", "accepts"),
    [
        ((torch.rand(0, 4), torch.rand(0, 4)), ("error", 0), 1),
        ((random_boxes(3), random_boxes(2)), ("(3, 4)", "(2, 4)"), "(N, 4)"),
        ((random_boxes(3), random_boxes(3), torch.zeros(3, 1)), "labels=", "true_labels="),
        (
            (random_boxes(3), random_boxes(3), torch.zeros(3, 2), torch.zeros(3)),
            "(3, 2)",
            ("(3, 1)", "(3,)"),
        ),
    ],
)
def test_an_error_of_nothing_or_of_a_mismatch_is_refused(arguments, got, accepts):
    with refuses(ValueError, got=got, accepts=accepts):
        localise.error(*arguments)


# Scenes -----------------------------------------------------------------------------------


def test_the_box_is_where_the_object_was_put():
    """A white square on black photos: what is not black is inside the box, and touches it."""
    item = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    item[..., 6:26, 10:20] = 255  # 20 high, 10 wide
    black = vgglib.data.photos()["coffee"].point(lambda _: 0)
    made = localise.compose(
        ImageSet(item, torch.zeros(1, dtype=torch.int64)), [black], 30, size=64, span=(0.3, 0.6)
    )
    assert made.size == 64 and len(made) == 30
    for image, box in zip(made.images, made.boxes.int().tolist(), strict=True):
        y, x = (image.amax(0) > 0).nonzero(as_tuple=True)
        assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == box
    width, height = (made.boxes[:, 2:] - made.boxes[:, :2]).T
    assert height.min() >= 0.3 * 64 - 1 and height.max() <= 0.6 * 64 + 1
    torch.testing.assert_close(width / height, torch.full((30,), 0.5), atol=0.03, rtol=0)
    corners = made.boxes[:, :2]
    assert corners.std(0).min() > 5, "objects lie at different places"


def test_scenes_repeat_by_seed_and_take_the_items_in_turn(scenes):
    items = vgglib.data.load("fashion-mnist-mini").train
    photos = list(vgglib.data.photos().values())
    again = localise.compose(items, photos, 40, size=48, seed=3)
    assert torch.equal(again.images, scenes.images) and torch.equal(again.boxes, scenes.boxes)
    assert not torch.equal(localise.compose(items, photos, 40, size=48, seed=4).boxes, scenes.boxes)
    assert torch.equal(scenes.labels, items.labels[:40])
    few = localise.compose(items[:3], photos, 7, size=48)
    assert few.labels.tolist() == items.labels[[0, 1, 2, 0, 1, 2, 0]].tolist()


def test_boxes_scale_with_their_scenes(scenes):
    half = scenes.rescaled(24)
    assert half.images.shape[-1] == half.size == 24
    torch.testing.assert_close(half.boxes, scenes.boxes / 2)


def test_a_crops_box_is_the_scenes_box(scenes):
    """Each crop is found again in its scene, at the place that its box says, mirrored or not."""
    images, boxes = scenes.random_crops(28, torch.Generator().manual_seed(0))
    mirrored = 0
    for image, box, scene, true in zip(images, boxes, scenes.images, scenes.boxes, strict=True):
        found = []
        for flip in (False, True):
            seen = image.flip(-1) if flip else image
            left, top = (true[:2] - box[:2]).int().tolist()
            if flip:  # seen from the right edge
                left = (true[0] - (28 - box[2])).int().item()
            found.append(
                left >= 0 and torch.equal(scene[:, top : top + 28, left : left + 28], seen)
            )
        assert any(found)
        mirrored += found[1]
        inside = box.clamp(0, 28)
        share = (inside[2:] - inside[:2]).prod() / (box[2:] - box[:2]).prod()
        assert share > 0.3, "half of the object, or the best of eight draws"
    assert 8 < mirrored < 32


@pytest.mark.parametrize(
    ("change", "got", "accepts"),
    [
        ({"boxes": torch.tensor([[0.0, 0, 9, 9]])}, 9.0, "8 px"),
        ({"boxes": torch.tensor([[0.0, 0, 5, 5], [0, 0, 5, 5]])}, "(2, 4)", "(1, 4)"),
        ({"images": torch.zeros(1, 3, 8, 9, dtype=torch.uint8)}, "(1, 3, 8, 9)", "(N, 3, H, H)"),
        ({"labels": torch.tensor([0, 1])}, ("labels", "(2,)"), "(1,)"),
    ],
)
def test_scenes_that_do_not_fit_together_are_refused(change, got, accepts):
    parts = {
        "images": torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        "labels": torch.tensor([0]),
        "boxes": torch.tensor([[0.0, 0, 5, 5]]),
    }
    localise.Scenes(**parts)
    with refuses(ValueError, got=got, accepts=accepts):
        localise.Scenes(**parts | change)


@pytest.mark.parametrize(
    ("changes", "got", "accepts", "remedy"),
    [
        ({"count": 0}, "count=0", 1, ()),
        ({"photos": []}, "0 photos", 1, ()),
        ({"span": (0.5, 1.5)}, ("span", "(0.5, 1.5)"), (0, 1), ()),
        ({"light": 50}, ("light", 50), (0, 1), ()),
        ({"size": 500}, "300 px", "500 px", "size="),
        (
            {"items": ImageSet(torch.zeros(1, 3, 32, 32).byte(), torch.tensor([0]))},
            "item 0",
            24,
            (),
        ),
    ],
)
def test_what_can_not_be_composed_is_named(changes, got, accepts, remedy):
    items = vgglib.data.load("fashion-mnist-mini").train[:2]
    given = {"items": items, "photos": [vgglib.data.photos()["chelsea"]], "count": 1} | changes
    with refuses(ValueError, got=got, accepts=accepts, remedy=remedy):
        localise.compose(**given)


# Regression -------------------------------------------------------------------------------


def test_a_regressor_keeps_all_but_the_last_layer():
    net = tiny_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for per_class, outputs in ((True, 12), (False, 4)):
        boxes = localise.regressor(net, per_class=per_class)
        assert boxes(torch.zeros(2, 3, 28, 28)).shape == (2, outputs) == (2, boxes.num_classes)
        last = f"classifier.{len(net.classifier) - 1}."
        for name, value in boxes.state_dict().items():
            assert torch.equal(value, before[name]) or name.startswith(last)
    assert net.num_classes == 3
    with torch.no_grad():
        boxes.features[0].weight.zero_()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()), "a copy"


def test_vgg16_predicts_4000_numbers():
    with torch.device("meta"):
        net = vgglib.vgg("D", init=None)
        assert localise.regressor(net).classifier[-1].out_features == 4000


def test_only_the_true_classs_box_is_penalised():
    outputs = torch.arange(24.0).view(2, 12).requires_grad_()
    labels, codes = torch.tensor([2, 0]), torch.tensor([[8.0, 9, 10, 14], [12, 13, 14, 15]])
    assert torch.equal(localise.boxes_of(outputs, labels)[0], outputs[0, 8:])
    loss = localise.euclidean_loss(outputs, codes, labels)
    assert loss.item() == 0.5 * (11 - 14) ** 2 / 2
    loss.backward()
    assert outputs.grad.nonzero().tolist() == [[0, 11]]
    shared = torch.ones(2, 4)
    assert torch.equal(localise.boxes_of(shared, labels), shared)


@pytest.mark.parametrize(
    ("outputs", "labels", "got", "accepts"),
    [
        (torch.zeros(2, 10), torch.tensor([0, 1]), "(2, 10)", ("(N, 4 · classes)", "(N, 4)")),
        (torch.zeros(2, 8), torch.tensor([0, 1, 1]), ("(2, 8)", "3 labels"), "(N, 4)"),
        (torch.zeros(2, 8), torch.tensor([0, 2]), ("labels", 2), "0 … 1"),
    ],
)
def test_outputs_without_a_box_for_each_label_are_refused(outputs, labels, got, accepts):
    with refuses(ValueError, got=got, accepts=accepts):
        localise.boxes_of(outputs, labels)


@pytest.mark.parametrize("layers", ["fc", "all"])
def test_training_lowers_the_loss_and_moves_what_it_should(scenes, layers):
    net = localise.regressor(
        vgglib.vgg(TINY, num_classes=10, image_size=28, batch_norm=True, init="he", dropout=0.0)
    )
    before = {k: v.clone() for k, v in net.state_dict().items()}
    history = localise.train_boxes(
        net, scenes, MEAN, STD, layers=layers, epochs=6, lr=0.02, batch_size=8
    )
    assert list(history.epoch) == [1, 2, 3, 4, 5, 6]
    assert history.train_loss.iloc[-1] < 0.7 * history.train_loss.iloc[0]
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert {k.split(".")[0] for k in moved} == (
        {"features", "classifier"} if layers == "all" else {"classifier"}
    )
    assert not net.training
    errors = localise.error(localise.centre_boxes(net, scenes, MEAN, STD), scenes.boxes)
    assert 0 <= errors <= 1


def test_the_same_seed_trains_the_same_net(scenes):
    states = []
    for _ in range(2):
        net = localise.regressor(tiny_net(10), per_class=False)
        torch.manual_seed(5)
        torch.nn.init.normal_(net.classifier[-1].weight, std=0.01)
        localise.train_boxes(net, scenes, MEAN, STD, epochs=1, batch_size=16, precision="fp32")
        states.append(net.state_dict())
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_a_training_that_can_not_be_is_refused(scenes):
    net = localise.regressor(tiny_net(10))
    for changes, got, accepts in (
        ({"layers": "fc8"}, ("layers", "fc8"), ("all", "fc")),
        ({"epochs": 0}, ("epochs", 0), "positive"),
        ({"batch_size": 41}, ("batch_size", 41), "40 scenes"),
    ):
        with refuses(ValueError, got=got, accepts=accepts):
            localise.train_boxes(net, scenes, MEAN, STD, **changes)
    with refuses(ValueError, got="28 px", accepts="24 px", remedy="rescaled(28)"):
        localise.train_boxes(net, scenes.rescaled(24), MEAN, STD, batch_size=8)
    with refuses(FloatingPointError, got=("epoch 1", 1e30), remedy="lr"):
        localise.train_boxes(net, scenes, MEAN, STD, lr=1e30, batch_size=8)
    with refuses(TypeError, got=("regressor", "Linear"), accepts="vgglib.vgg"):
        localise.regressor(torch.nn.Linear(3, 4))


# Dense and merged -------------------------------------------------------------------------


@pytest.mark.parametrize("per_class", [True, False])
def test_candidates_are_those_of_each_window_cropped_out(scenes, per_class):
    """Convolutions without padding from outside: away from the border a crop sees the same."""
    net = tiny_net(10)
    for layer in net.features:
        if isinstance(layer, torch.nn.Conv2d):
            layer.padding = (0, 0)  # else the crop meets zeros where the image goes on
            layer.weight.data = torch.nn.functional.pad(layer.weight.data[..., 1:2, 1:2], 4 * [0])
            layer.kernel_size = (1, 1)
    boxes_net = localise.regressor(net, per_class=per_class)
    torch.nn.init.normal_(boxes_net.classifier[-1].weight, std=0.1)
    boxes, probabilities = localise.candidates(boxes_net, net, scenes.images[:5], MEAN, STD)
    places = [(y, x) for y in range(0, 21, 4) for x in range(0, 21, 4)]
    assert boxes.shape == (5, 36, 10, 4) and probabilities.shape == (5, 36, 10)
    for window, (y, x) in enumerate(places):
        crop = scenes.images[:5, :, y : y + 28, x : x + 28]
        pixels = vgglib.augment.normalise(crop, MEAN, STD)
        with torch.no_grad():
            codes, scores = boxes_net(pixels), net(pixels).softmax(1)
        torch.testing.assert_close(probabilities[:, window], scores)
        for k in range(10):
            code = codes[:, 4 * k : 4 * k + 4] if per_class else codes
            expected = localise.decode(code, 28) + torch.tensor([x, y, x, y])
            torch.testing.assert_close(boxes[:, window, k] * 48, expected, rtol=1e-4, atol=1e-4)


def test_candidates_of_another_scale_are_in_the_same_units(scenes):
    net = tiny_net(10)
    boxes_net = localise.regressor(net)
    with torch.no_grad():  # every window says: the object fills me
        boxes_net.classifier[-1].weight.zero_()
        boxes_net.classifier[-1].bias.copy_(torch.tensor([0.5, 0.5, 1.0, 1.0]).repeat(10))
    for scale in (None, 40, 56):
        boxes, _ = localise.candidates(boxes_net, net, scenes.images, MEAN, STD, scale=scale)
        side = 28 / (scale or 48)
        torch.testing.assert_close(boxes[0, 0, 0], torch.tensor([0.0, 0.0, side, side]))
        assert boxes.shape[1] == (((scale or 48) - 28) // 4 + 1) ** 2


def test_nets_that_do_not_belong_together_are_named(scenes):
    net = tiny_net(10)
    with refuses(ValueError, got=40, accepts=(4, 12), remedy="regressor(net)"):
        localise.candidates(localise.regressor(net), tiny_net(3), scenes.images, MEAN, STD)
    other = vgglib.vgg(TINY, num_classes=10, image_size=32)
    with refuses(ValueError, got=("32 px", "28 px"), remedy="image_size"):
        localise.candidates(localise.regressor(other), net, scenes.images, MEAN, STD)
    with refuses(ValueError, got="20×20", accepts="28×28", remedy="scales"):
        localise.candidates(localise.regressor(net), net, scenes.images, MEAN, STD, scale=20)


def slow_merge(boxes, scores, limit):
    """OverFeat's procedure in plain Python: groups of boxes, compared pair by pair."""

    def mean(group):
        return [sum(boxes[i][c] for i in group) / len(group) for c in range(4)]

    def apart(a, b):
        wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        union = sum(areas) - wide * high
        diagonals = [math.hypot(c[2] - c[0], c[3] - c[1]) for c in (a, b)]
        between = math.hypot((a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2)
        return between / (sum(diagonals) / 2) + 1 - wide * high / union

    groups = [[i] for i in range(len(boxes))]
    while len(groups) > 1:
        pairs = [(apart(mean(a), mean(b)), a, b) for a in groups for b in groups if a is not b]
        distance, a, b = min(pairs, key=lambda pair: pair[0])
        if distance > limit:
            break
        groups = [g for g in groups if g is not a and g is not b] + [a + b]
    rated = [(sum(scores[i] for i in group), mean(group)) for group in groups]
    return sorted(rated, key=lambda pair: -pair[0])


@pytest.mark.parametrize("limit", [0.0, 0.4, 0.75, 1.2, 3.0])
def test_merging_equals_a_slow_loop(limit):
    for seed in range(4):
        boxes = random_boxes(14, size=40, seed=seed).double()
        scores = torch.rand(14, generator=torch.Generator().manual_seed(seed)).double()
        merged, totals = localise.merge(boxes, scores, limit=limit)
        expected = slow_merge(boxes.tolist(), scores.tolist(), limit)
        assert len(merged) == len(expected)
        torch.testing.assert_close(totals, torch.tensor([s for s, _ in expected]).double())
        torch.testing.assert_close(merged, torch.tensor([b for _, b in expected]).double())


def test_many_that_agree_outvote_one_that_is_sure():
    near = torch.tensor([[0.0, 0, 10, 10]]) + torch.tensor([[-1.0], [0.0], [1.0]])
    boxes = torch.cat([near, torch.tensor([[50.0, 50, 60, 60]])])
    given = boxes.clone()
    merged, scores = localise.merge(boxes, torch.tensor([0.4, 0.4, 0.4, 0.9]))
    torch.testing.assert_close(merged, torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]]))
    torch.testing.assert_close(scores, torch.tensor([1.2, 0.9]))
    assert torch.equal(boxes, given), "the caller's boxes are left alone"


def test_match_distance_of_equal_empty_and_distant_boxes():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [30, 0, 40, 10], [5, 5, 5, 5]])
    distance = merging.match_distance(boxes)
    torch.testing.assert_close(distance, distance.T)
    assert distance[0, 1] == 0
    assert distance[0, 2] == pytest.approx(30 / math.sqrt(200) + 1)
    assert distance.isfinite().all()


def test_each_named_class_gets_its_box():
    boxes = random_boxes(12).view(1, 6, 2, 4)  # one image, six windows, two classes
    probabilities = torch.rand(1, 6, 2, generator=torch.Generator().manual_seed(0))
    found = localise.final_boxes(boxes, probabilities, torch.tensor([[1, 0]]))
    for place, k in enumerate((1, 0)):
        best = localise.merge(boxes[0, :, k], probabilities[0, :, k])[0][0]
        assert torch.equal(found[0, place], best)
    with refuses(ValueError, got=("labels", "(2,)"), accepts="(1, k)"):
        localise.final_boxes(boxes, probabilities, torch.tensor([1, 0]))
    with refuses(ValueError, got=("(0, 4)", "(0,)"), accepts=("(n, 4)", 1)):
        localise.merge(torch.rand(0, 4), torch.rand(0))
