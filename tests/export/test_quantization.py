"""Export in int8: what is calibrated on, when a file is refused, and which layers stay float."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
import onnx
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrformer_mmpose.checkpoint import save_weights
from hrformer_mmpose.cli import export as command
from hrformer_mmpose.cli import terminal
from hrformer_mmpose.coco import annotations as annotation_files
from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.export import accuracy, calibration, quantization
from hrformer_mmpose.export.layers import group_of, quantizable
from hrformer_mmpose.export.quantization import costliest_groups
from hrformer_mmpose.imaging.images import write_image
from hrformer_mmpose.inference.detectors import CocoDetections
from hrformer_mmpose.inference.networks import open_network
from hrformer_mmpose.inference.torch_network import TorchNetwork, build, read_config
from hrformer_mmpose.synthetic.dataset import generate
from tests.export.test_export import CONFIG

SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    """Folder of images, paths, and boxes: more persons than a calibration needs."""
    root = generate(tmp_path_factory.mktemp('people') / 'root', num_train=1, num_val=36, seed=5)
    file = root / 'annotations' / 'person_keypoints_val2017.json'
    boxes = CocoDetections(file)
    return root / 'val2017', [str(root / 'val2017' / name) for name in sorted(boxes)], boxes


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """Config, checkpoint and a small network whose head sees bright spots."""
    folder = tmp_path_factory.mktemp('network')
    config, checkpoint = folder / 'small.py', folder / 'small.pth'
    config.write_text(
        CONFIG.replace('model = dict(', 'model = dict(test_cfg=dict(flip_test=False), ')
    )
    model = build(read_config(str(config)), 'small')
    model.head.final_layer.weight.data.normal_(0, 0.3)
    save_weights(model.state_dict(), checkpoint, 'mmpose')
    return config, checkpoint, TorchNetwork(config, checkpoint, 'cpu', fuse=False)


@pytest.fixture(scope='module')
def truth(network, people, tmp_path_factory):
    """Annotations that the network meets exactly, those of the images to compare on."""
    table = accuracy.predict(network[2], people[1], people[2])
    keypoints = np.concatenate([table.keypoints, np.full((*table.scores.shape, 1), 2)], 2)
    content = json.loads(Path(people[2].path).read_text())
    ids = {entry['file_name']: entry['id'] for entry in content['images']}
    content['annotations'] = [
        dict(id=n + 1, image_id=ids[Path(people[1][image]).name], category_id=1, iscrowd=0,
             keypoints=k.ravel().tolist(), num_keypoints=17, area=float((x1 - x0) * (y1 - y0)),
             bbox=[float(x0), float(y0), float(x1 - x0), float(y1 - y0)])
        for n, (image, k, (x0, y0, x1, y1, _)) in enumerate(
            zip(table.image, keypoints, table.boxes, strict=True)
        )
    ]  # fmt: skip
    path = tmp_path_factory.mktemp('truth') / 'truth.json'
    path.write_text(json.dumps(content))
    return str(path), table


def moved(table, pixels, seed=0):
    rng = np.random.default_rng(seed)
    values = dict(
        vars(table), keypoints=table.keypoints + rng.normal(0, pixels, table.keypoints.shape)
    )
    return accuracy.PoseTable(**values)


def test_ap_on_some_images_is_that_of_pycocotools(truth, people, tmp_path):
    path, table = truth
    images = people[1][:9]
    ap = accuracy.AveragePrecision(path, images, SIGMAS)
    part = np.flatnonzero(table.image < len(images))
    names = ('image', 'keypoints', 'scores', 'boxes', 'crop_scale')
    rows = {name: getattr(table, name)[part] for name in names}
    table = accuracy.PoseTable(**rows, input_size=table.input_size)
    assert ap(table) == pytest.approx(100)
    table = moved(table, 4)
    gt = COCO(path)
    ids = {entry['file_name']: entry['id'] for entry in gt.dataset['images']}
    image_ids = [ids[Path(name).name] for name in images]
    scores = np.where(table.scores > 0.2, table.scores, np.nan)
    results = [
        dict(image_id=image_ids[image], category_id=1, score=float(np.nan_to_num(np.nanmean(s))),
             keypoints=np.column_stack([k, np.ones(17)]).ravel().tolist())
        for image, k, s in zip(table.image, table.keypoints, scores, strict=True)
    ]  # fmt: skip
    evaluation = COCOeval(gt, gt.loadRes(results), 'keypoints')
    evaluation.params.imgIds = image_ids
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 5 < ap(table) < 95
    # Suppression of nearly equal poses, which COCO's evaluation does not include, changes nothing.
    assert ap(table) == pytest.approx(100 * evaluation.stats[0], abs=1e-6)


def test_shifts_are_in_pixels_of_the_crop_and_in_oks(truth):
    _, table = truth
    keypoints = table.keypoints.copy()
    keypoints[3, 5] += [3, -5]
    shifts = accuracy.compare(
        table, accuracy.PoseTable(**dict(vars(table), keypoints=keypoints)), SIGMAS
    )
    w, h = table.input_size
    x, y = 3 * w / table.crop_scale[3, 0], 5 * h / table.crop_scale[3, 1]
    assert shifts.pixels[3, 5] == pytest.approx(np.hypot(x, y), rel=1e-5)
    assert np.count_nonzero(shifts.pixels) == 1
    x0, y0, x1, y1, _ = table.boxes[3]
    area = 0.53 * (x1 - x0) * (y1 - y0)
    assert shifts.similarity[3, 5] == pytest.approx(
        np.exp(-34 / (2 * (2 * 0.079) ** 2 * area)), rel=1e-5
    )
    missing = accuracy.PoseTable(
        **{
            name: value if name == 'input_size' else value[1:]
            for name, value in vars(table).items()
        }
    )
    with pytest.raises(DataError, match=f'^{len(table) - 1} poses of the {len(table)} persons'):
        accuracy.compare(table, missing, SIGMAS)


def test_images_compared_on_are_not_calibrated_on(people, tmp_path):
    calibrate, compared = calibration.split_images(people[1], None)
    assert sorted([*calibrate, *compared]) == people[1]
    assert len(compared) == 9
    assert calibrate != sorted(calibrate)
    link = tmp_path / 'link.png'
    link.symlink_to(people[1][3])
    with pytest.raises(ConfigError, match='1 of --images are images of --calibrate, too'):
        calibration.split_images(people[1], [str(link)])
    assert calibration.split_images(people[1][:4], people[1][4:])[1] == people[1][4:]


def test_crops_are_those_of_the_images_up_to_a_limit(network, people, monkeypatch):
    crops = calibration.calibration_crops(network[2], people[1], people[2])
    assert crops.shape == (sum(map(len, map(people[2].get, people[1]))), 112, 84, 3)
    assert len(crops) >= calibration.LEAST_CROPS
    assert crops.std() > 1
    monkeypatch.setattr(calibration, 'MOST_CROPS', 33)
    np.testing.assert_array_equal(
        calibration.calibration_crops(network[2], people[1], people[2]), crops[:33]
    )


def test_groups_are_branches_of_a_stages_module():
    start = '/backbone/stage3/stage3.0'
    assert group_of(f'{start}/branches.1/branches.1.0/fc1/Conv') == start[1:] + '/branches.1'
    assert group_of(f'{start}/fuse_layers.1/fuse_layers.1.0/Conv') == start[1:] + '/fuse_layers.1'
    assert group_of('/backbone/layer1/layer1.0/conv1/Conv') == 'backbone/layer1'
    assert group_of('/head/final_layer/Conv') == 'head/final_layer'
    assert group_of('/Conv_3') is None
    assert costliest_groups(dict(a=0.1, b=0.6, c=0.2), 0.5) == ['b']
    assert costliest_groups(dict(a=0.1, b=0.6, c=0.2), 0.75) == ['b', 'c']
    assert costliest_groups({}, 0.5) == []


class Noisy:
    """Quantizer whose only error is noise in some layers, which groups kept float do not have."""

    amounts = {}

    def __init__(self, source, samples, say):
        self.model, self.samples = onnx.load(source), samples
        say(f'{len(samples)} samples')

    def groups(self):
        weighted, products = quantizable(self.model)
        assert products  # attention's
        names = [*dict.fromkeys(map(group_of, weighted))]
        assert {*self.amounts} <= {*names}
        return [*self.amounts, names[5]]  # a session a group takes time

    def noisy(self, float_groups):
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        rng = np.random.default_rng(0)
        for node in model.graph.node:
            amount = self.amounts.get(group_of(node.name), 0)
            if node.op_type == 'Conv' and amount and group_of(node.name) not in float_groups:
                values = next(t for t in self.tensors(model) if t.name == node.input[1])
                array = onnx.numpy_helper.to_array(values)
                array = array + rng.normal(0, amount, array.shape).astype(np.float32)
                values.CopyFrom(onnx.numpy_helper.from_array(array, values.name))
        return model

    @staticmethod
    def tensors(model):
        for node in model.graph.node:
            if node.op_type == 'Constant':  # by the exporter's name of the value
                node.attribute[0].t.name = node.output[0]
                yield node.attribute[0].t
        yield from model.graph.initializer

    def tensor(self, name, samples, float_groups):
        import onnxruntime

        model = self.noisy(float_groups)
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        return session.run([name], {'images': samples})[0]

    def save(self, path, metadata, float_groups):
        model = self.noisy(float_groups)
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, path)


@pytest.fixture
def quantizer(monkeypatch):
    def make(suffix, source, samples, say):
        model = onnx.load(source)
        return Noisy(source, samples, say), quantization.last_output(model)

    monkeypatch.setattr(quantization, '_quantizer', make)
    return Noisy


def run_command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['export', *map(str, arguments)])
    try:
        terminal.run(command.run, command.parser())
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.mark.slow
def test_the_layers_that_cost_most_stay_float(
    quantizer, network, people, truth, tmp_path, monkeypatch, capsys
):
    config, checkpoint, _ = network
    monkeypatch.setattr(
        quantizer, 'amounts', {'head/final_layer': 2.0, 'backbone/stage2/stage2.0/branches.0': 1e-4}
    )
    out = tmp_path / 'a.onnx'
    flags = ['--precision', 'int8', '--calibrate', people[0], '--boxes', truth[0]]
    assert run_command(monkeypatch, config, checkpoint, out, *flags, '--max-loss', 2) == 0
    printed = capsys.readouterr().out
    assert 'looking for the layers that cost most' in printed
    assert 'kept float: head/final_layer\n' in printed
    assert 'AP: float32 100.00, int8 ' in printed
    assert len([line for line in printed.splitlines() if line.startswith('left_')]) == 8
    description = open_network(out).description
    assert description.precision == 'int8'
    assert description.quantization['float_layers'] == ['head/final_layer']
    assert description.quantization['crops'] >= 32
    assert [path.name for path in tmp_path.iterdir()] == ['a.onnx']
    monkeypatch.setattr(quantization, 'SHARES', ())
    assert run_command(monkeypatch, config, checkpoint, out, *flags, '--force') == 0
    assert open_network(out).description.quantization['float_layers'] == []


@pytest.mark.slow
def test_a_file_that_loses_too_much_is_not_written(
    quantizer, network, people, truth, tmp_path, monkeypatch, capsys
):
    config, checkpoint, _ = network
    monkeypatch.setattr(quantizer, 'amounts', dict.fromkeys(
        ('head/deconv_layers', 'head/final_layer', 'backbone/stage4/stage4.0/branches.0'), 3.0
    ))  # fmt: skip
    monkeypatch.setattr(quantization, 'SHARES', (0.01,))
    out = tmp_path / 'a.onnx'
    flags = ['--precision', 'int8', '--calibrate', people[0], '--boxes', truth[0]]
    line = run_command(monkeypatch, config, checkpoint, out, *flags)
    assert line.startswith('error: int8 loses ')
    assert f"more than --max-loss 0.5: '{out}' is not written (--force writes it); most is" in line
    assert 'head/final_layer' in line
    assert '\n' not in line
    assert [*tmp_path.iterdir()] == []


def test_what_a_user_can_get_wrong(network, people, truth, tmp_path, monkeypatch):
    config, checkpoint, _ = network
    out, folder = tmp_path / 'a.onnx', tmp_path / 'images'
    folder.mkdir()

    def run(*flags, checkpoint=checkpoint):
        return run_command(monkeypatch, config, checkpoint, out, '--precision', 'int8', *flags)

    data = '--calibrate', people[0], '--boxes', truth[0]
    assert run() == run('--calibrate', people[0])
    assert run().startswith('error: --precision int8 needs --calibrate IMAGES, a few hundred')
    assert 'leave out --no-decode' in run(*data, '--no-decode')
    assert 'leave out --no-decode' in run(*data, '--no-check')
    assert 'is for --exporter trace' in run(*data, '--exporter', 'dynamo')
    assert run(*data, '--max-loss', 'nan') == 'error: --max-loss nan: give points of AP, 0 to 100'
    line = run('--calibrate', *people[1][:5], '--boxes', truth[0])
    assert 'images to calibrate on show ' in line
    assert line.endswith('in --boxes: give at least 32, better 300')
    for number in range(3):
        write_image(folder / f'{number}.png', np.zeros((40, 40, 3), np.uint8))
    line = run('--calibrate', folder, '--boxes', truth[0])
    assert "truth.json' lists none of the 2 images" in line
    images = [dict(id=n, file_name=f'{n}.png', width=40, height=40) for n in range(3)]
    content = json.loads(Path(truth[0]).read_text())
    other = tmp_path / 'nobody.json'
    other.write_text(json.dumps({**content, 'images': [*content['images'], *images]}))
    line = run('--calibrate', folder, '--boxes', other)
    assert line.startswith('error: the 2 images to calibrate on show 0 persons in --boxes')
    misfit = tmp_path / 'misfit.pth'
    save_weights({'backbone.conv1.weight': torch.zeros(3, 3)}, misfit, 'mmpose')
    line = run(*data, checkpoint=misfit)
    assert line.startswith(f"error: '{misfit}'")
    assert '\n' not in line
    monkeypatch.setattr(command.files.importlib.util, 'find_spec', lambda name: None)
    assert 'pip install' in run(*data)
    assert not out.exists()


def test_annotations_are_those_of_the_boxes(truth):
    assert CocoDetections(truth[0]).annotation_file == truth[0]
    assert len(annotation_files.read(truth[0]).image_id) == 36


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['.onnx', '.xml'])
def test_layers_kept_float_are_float(network, people, tmp_path, suffix):
    """The quantizers themselves: int8 differs from float32, and less with each float group."""
    pytest.importorskip('onnxruntime' if suffix == '.onnx' else 'nncf')
    float32 = network[2]
    graph = quantization.PoseGraph(float32)
    source = tmp_path / 'float32.onnx'
    quantization.files.to_onnx(graph, float32.input_size, source, 'trace')
    crops = calibration.calibration_crops(float32, people[1], people[2])
    quantizer, probe = quantization._quantizer(suffix, source, crops, print)
    groups = quantizer.groups()
    assert {'head/final_layer', 'backbone/stage4/stage4.0/branches.3'} <= {*groups}
    expected = graph.encoded(graph.preprocess(torch.from_numpy(crops[:8]))).numpy()

    def error(float_groups):
        actual = quantizer.tensor(probe, crops[:8], float_groups)
        return np.linalg.norm(actual - expected) / np.linalg.norm(expected)

    assert error(groups) < 1e-4
    assert 1e-3 < error([]) < 0.3
    assert error(groups[: len(groups) // 2]) < error([])
    costs = quantization.rank(quantizer, probe, crops[:8], print)
    assert {*costs} == {*groups}
    path = tmp_path / f'a{suffix}'
    quantizer.save(path, {}, [])
    sizes = [f.stat().st_size for f in tmp_path.iterdir() if f.suffix in (suffix, '.bin')]
    assert sum(sizes) > 0
