"""Devices of exported networks: what is asked of the backends, and one line for each obstacle.

No GPU is needed: onnxruntime, OpenVINO's core and CUDA's driver are replaced.
"""

import ctypes
import dataclasses
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from hrformer_mmpose.errors import ConfigError, DeviceError, WeightsError
from hrformer_mmpose.imaging.skeleton import COCO
from hrformer_mmpose.inference import networks, tensorrt_engines
from hrformer_mmpose.inference.description import KEY, Description
from hrformer_mmpose.inference.device_names import backends_with, split_device
from hrformer_mmpose.inference.networks import open_network
from hrformer_mmpose.inference.onnx_session import CPU, CUDA, TENSORRT
from hrformer_mmpose.inference.openvino_session import OpenVinoSession, _device_name

DESCRIPTION = Description(
    config='c', checkpoint='c.pth', sha256='', version='', created='', input_size=(192, 256),
    padding=1.25, udp=False, mean=(0, 0, 0), std=(1, 1, 1), rgb=True, normalise=True, decode=True,
    codec={}, flip_test=False, precision='float16', keypoints=COCO.names, links=COCO.links,
    flip_indices=COCO.flip_indices,
)  # fmt: skip


class Runtime(SimpleNamespace):
    """Module like onnxruntime, with the given providers.

    `broken` ones do not start; a session without fallback raises `error` for them, if there is one.
    """

    def __init__(self, *available, broken=(), error=None):
        super().__init__(sessions=[], preloaded=0, error=error)
        self.GraphOptimizationLevel = SimpleNamespace(ORT_DISABLE_ALL=0)
        self.SessionOptions = SimpleNamespace
        self.get_available_providers = lambda: [*available]
        self.InferenceSession = lambda *args, **kwargs: self.open(broken, *args, **kwargs)
        self.severities: list[int] = []
        self.set_default_logger_severity = self.severities.append

    def preload_dlls(self):
        print('not found: libcudnn')
        self.preloaded += 1

    def open(self, broken, path, options, providers, enable_fallback):
        assert self.severities[-1:] == [4], 'what a provider prints is raised, too'
        named = [p if isinstance(p, tuple) else (p, {}) for p in providers]
        started = [name for name, _ in named if name not in broken]
        if self.error is not None and not enable_fallback and len(started) < len(named):
            raise self.error
        self.sessions.append(SimpleNamespace(options=options, providers=dict(named), batches=[]))
        batches = self.sessions[-1].batches

        def run(_, inputs):
            (images,) = inputs.values()
            batches.append(len(images))
            return [images[:, 0, 0, :1].astype(float), images[:, 0, 0, 1:2]]

        return SimpleNamespace(
            get_providers=lambda: started,
            get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={KEY: DESCRIPTION.to_json()}),
            get_inputs=lambda: [SimpleNamespace(name='images', shape=['batch', 256, 192, 3])],
            run=run,
        )


@pytest.fixture
def network(tmp_path):
    path = tmp_path / 'a.onnx'
    path.write_bytes(b'weights')
    return path


@pytest.fixture
def runtime(monkeypatch):
    def install(*available, broken=(), error=None):
        module = Runtime(*available, broken=broken, error=error)
        monkeypatch.setitem(sys.modules, 'onnxruntime', module)
        monkeypatch.setattr(networks.importlib.util, 'find_spec', lambda name: object())
        return module

    return install


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A GPU and versions that a test can change, and a cache folder of its own."""
    state = SimpleNamespace(name='NVIDIA H100 80GB', capability='sm90', tensorrt='10.13.2')
    monkeypatch.setattr(tensorrt_engines, 'gpu_name', lambda _: (state.name, state.capability))
    monkeypatch.setattr(tensorrt_engines, 'version', lambda: state.tensorrt)
    monkeypatch.setattr(tensorrt_engines, 'metadata_version', lambda _: '1.32.0')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return state


def test_without_a_device_the_build_decides(runtime, network):
    module = runtime(CPU)
    open_network(network)
    assert module.sessions[0].providers == {CPU: {}}
    module = runtime(TENSORRT, CUDA, CPU)
    open_network(network, threads=3)
    assert [*module.sessions[0].providers] == [CUDA, CPU]
    assert module.sessions[0].options.intra_op_num_threads == 3
    assert module.severities == [4, 2], "onnxruntime's default again"


def test_cuda_is_asked_for_by_number_and_without_tensorrt(runtime, network, capsys):
    module = runtime(TENSORRT, CUDA, CPU)
    open_network(network, device='cuda:1')
    assert module.sessions[-1].providers == {CUDA: dict(device_id=1), CPU: {}}
    assert module.preloaded == 1
    assert capsys.readouterr().out == ''
    open_network(network, 'onnxruntime', device='cpu')
    assert module.sessions[-1].providers == {CPU: {}}


def test_a_build_without_the_provider_names_the_package(runtime, network):
    runtime(CPU)
    with pytest.raises(ImportError, match=r"device='cuda' needs the CUDAExecutionProvider.*: pip "):
        open_network(network, device='cuda')
    with pytest.raises(ImportError, match=r"'tensorrt' needs the Tensorrt.*pip install tensorrt"):
        open_network(network, device='tensorrt')


def test_a_provider_that_does_not_start_is_one_line(runtime, network, gpu):
    runtime(TENSORRT, CUDA, CPU, broken=[CUDA])
    with pytest.raises(DeviceError, match="'cuda': onnxruntime cannot start its CUDAExecutionPro"):
        open_network(network, device='cuda')
    runtime(TENSORRT, CUDA, CPU, broken=[TENSORRT])
    with pytest.raises(DeviceError, match='cannot start its TensorrtExecutionProvider'):
        open_network(network, device='tensorrt')


def test_without_tensorrts_libraries_nothing_is_said_of_compiling(runtime, network, gpu, caplog):
    caplog.set_level(logging.WARNING)
    gpu.tensorrt = 'unknown'
    module = runtime(TENSORRT, CUDA, CPU)
    with pytest.raises(DeviceError, match=r'libraries of the GPU are missing.*install tensorrt'):
        open_network(network, device='tensorrt')
    assert (module.sessions, caplog.text) == ([], '')


def test_nothing_falls_back_with_its_lines_on_the_terminal(runtime, network, gpu):
    """As onnxruntime 1.31 does without TensorRT's libraries, and without memory."""
    error = RuntimeError('RegisterTensorRTPluginsAsCustomOps: Please install TensorRT libraries')
    runtime(TENSORRT, CUDA, CPU, broken=[TENSORRT], error=error)
    with pytest.raises(DeviceError, match='cannot start its TensorrtExecutionProvider'):
        open_network(network, device='tensorrt')
    error = RuntimeError('CUDA failure 2: out of memory')
    runtime(TENSORRT, CUDA, CPU, broken=[CUDA], error=error)
    with pytest.raises(Exception, match='out of memory'):
        open_network(network, device='cuda')


@pytest.mark.parametrize('precision', ['float32', 'float16', 'int8'])
def test_tensorrt_gets_precision_shapes_and_a_folder(runtime, network, gpu, monkeypatch, precision):
    described = dataclasses.replace(DESCRIPTION, precision=precision)
    monkeypatch.setattr(sys.modules[__name__], 'DESCRIPTION', described)
    module = runtime(TENSORRT, CUDA, CPU)
    opened = open_network(network, device='tensorrt:2')
    assert [*module.sessions[-1].providers] == [TENSORRT, CUDA, CPU]
    options = module.sessions[-1].providers[TENSORRT]
    assert module.sessions[-1].providers[CUDA] == dict(device_id=2)
    assert options['device_id'] == 2
    assert options['trt_fp16_enable'] is (precision == 'float16')
    assert options['trt_int8_enable'] is (precision == 'int8')
    assert options['trt_profile_min_shapes'] == 'images:1x256x192x3'
    assert options['trt_profile_max_shapes'] == 'images:64x256x192x3'
    assert options['trt_engine_cache_enable'] is True
    folder = options['trt_engine_cache_path']
    assert os.path.isdir(folder)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    # A batch above the engine's largest is computed in parts.
    images = np.random.default_rng(0).integers(0, 256, (150, 256, 192, 3)).astype(np.uint8)
    outputs = opened.outputs(images)
    assert module.sessions[-1].batches == [64, 64, 22]
    np.testing.assert_array_equal(outputs[1], images[:, 0, 0, 1:2])


def test_an_engine_folder_is_named_after_model_gpu_and_versions(network, gpu, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    folder = tensorrt_engines.engine_folder(network)
    _, name, capability, engine, onnxruntime = folder.name.split('-')
    assert (name, capability) == ('NVIDIA_H100_80GB', 'sm90')
    assert (engine, onnxruntime) == ('tensorrt10.13.2', 'onnxruntime1.32.0')
    assert f"TensorRT compiles '{network}' into '{folder}'" in caplog.text
    (folder / 'a.engine').write_bytes(b'engine')
    caplog.clear()
    assert tensorrt_engines.engine_folder(network) == folder
    assert caplog.text == ''
    folders = {folder}
    for change in (dict(tensorrt='10.14.0'), dict(name='NVIDIA A100'), dict(capability='sm80')):
        vars(gpu).update(change)
        folders.add(tensorrt_engines.engine_folder(network))
        assert f"('{folder.name}' is not used)" in caplog.text
    network.write_bytes(b'other weights')
    folders.add(tensorrt_engines.engine_folder(network))
    assert len(folders) == 5
    assert [path for path in folders if [*path.iterdir()]] == [folder]


def test_an_engine_folder_is_private_whatever_the_umask(network, gpu):
    usual = os.umask(0o002)
    try:
        folder = tensorrt_engines.engine_folder(network)
    finally:
        os.umask(usual)
    assert folder is not None
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}


def test_a_cache_folder_that_cannot_be_used_is_one_line(
    network, gpu, tmp_path, monkeypatch, caplog
):
    (tmp_path / 'cache').write_text('a file')
    assert tensorrt_engines.engine_folder(network) is None
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'other'))
    folder = tensorrt_engines.engine_folder(network)
    with monkeypatch.context() as patch:  # root may write anywhere
        patch.setattr(tensorrt_engines.os, 'access', lambda *_: False)
        caplog.clear()
        assert tensorrt_engines.engine_folder(network) is None
        assert tensorrt_engines.options(network, 'float32', 'x', ['3'], 0).keys() == {
            'device_id', 'trt_fp16_enable', 'trt_int8_enable', 'trt_profile_min_shapes',
            'trt_profile_opt_shapes', 'trt_profile_max_shapes',
        }  # fmt: skip
    assert f"anew each time (minutes): '{folder}': cannot be written; let XDG" in caplog.text
    folder.chmod(0o777)
    caplog.clear()
    assert tensorrt_engines.engine_folder(network) is None
    assert 'can be written by others' in caplog.text
    assert all('\n' not in record.message for record in caplog.records)


def test_the_gpus_name_comes_from_the_driver(monkeypatch):
    class Driver:
        def cuInit(self, flags):
            return 0

        def cuDeviceGet(self, device, number):
            return 0 if number < 1 else 101

        def cuDeviceGetName(self, name, length, device):
            name.value = b'NVIDIA H100'

        def cuDeviceGetAttribute(self, value, attribute, device):
            ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = {75: 9, 76: 0}[attribute]

    monkeypatch.setattr(tensorrt_engines.ctypes, 'CDLL', lambda name: Driver())
    assert tensorrt_engines.gpu_name(0) == ('NVIDIA H100', 'sm90')
    with pytest.raises(ConfigError, match='tensorrt:7: no such NVIDIA GPU'):
        tensorrt_engines.gpu_name(7)

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(tensorrt_engines.ctypes, 'CDLL', missing)
    with pytest.raises(ConfigError, match='the driver is missing'):
        tensorrt_engines.gpu_name(0)
    monkeypatch.setattr(tensorrt_engines, 'metadata_version', lambda _: '')
    assert tensorrt_engines.version() == 'unknown'


@pytest.mark.parametrize('device', ['cuda:x', 'CUDA', 'mps', 'cpu:1', 'cuda:-1', ''])
def test_names_that_are_no_device(device, network):
    with pytest.raises(ConfigError, match='is not one of cpu, cuda'):
        open_network(network, device=device)
    assert split_device('cuda:12', ['cuda']) == ('cuda', 12)


def test_a_device_selects_its_backend(network, tmp_path):
    assert backends_with('tensorrt') == ['onnxruntime']
    assert backends_with('auto') == ['openvino']
    assert backends_with('cpu') == ['onnxruntime', 'openvino']
    with pytest.raises(ConfigError, match="device='gpu' is not one of cpu, cuda"):
        open_network(network, 'onnxruntime', device='gpu')
    xml = tmp_path / 'a.xml'
    xml.write_text('')
    with pytest.raises(ConfigError, match="'cuda' is one of onnxruntime, which does not read "):
        open_network(xml, device='cuda')


def test_openvinos_gpus_are_found_by_number():
    def core(*devices):
        return SimpleNamespace(available_devices=[*devices])

    assert _device_name(core('CPU'), 'auto') == 'AUTO'
    assert _device_name(core('CPU', 'GPU'), 'gpu') == 'GPU'
    assert _device_name(core('CPU', 'GPU.0', 'GPU.1'), 'gpu:1') == 'GPU.1'
    with pytest.raises(ConfigError, match="'gpu': OpenVINO finds no GPU here: it needs an Intel"):
        _device_name(core('CPU'), 'gpu')
    with pytest.raises(ConfigError, match='finds 1 GPU here'):
        _device_name(core('CPU', 'GPU'), 'gpu:1')


@pytest.mark.parametrize(
    ('device', 'precision', 'settings'),
    [
        ('CPU', 'float16', {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 2}),
        ('CPU', 'bfloat16', {'INFERENCE_PRECISION_HINT': 'bf16', 'INFERENCE_NUM_THREADS': 2}),
        ('GPU', 'float16', {'INFERENCE_PRECISION_HINT': 'f16'}),
        ('GPU.1', 'bfloat16', {'INFERENCE_PRECISION_HINT': 'f16'}),
        ('AUTO', 'int8', {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 2}),
    ],
)
def test_openvinos_settings_follow_the_device(device, precision, settings):
    session = OpenVinoSession.__new__(OpenVinoSession)
    session._device, session._threads, session.precision = device, 2, precision
    assert session.settings() == settings


def test_threads_share_a_session_of_openvino(tmp_path):
    pytest.importorskip('openvino')
    onnx = pytest.importorskip('onnx')
    size = ['batch', 3]
    ends = [onnx.helper.make_tensor_value_info(name, 1, size) for name in ('x', 'y')]
    node = onnx.helper.make_node('Identity', ['x'], ['y'])
    graph = onnx.helper.make_graph([node], 'identity', ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / 'identity.onnx')
    session = OpenVinoSession(tmp_path / 'identity.onnx', threads=1)

    def differences(number: int) -> int:
        batch = np.full((2, 3), number, np.float32)
        return sum(not np.array_equal(session.run(batch)[0], batch) for _ in range(100))

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(differences, (1, 2))] == [0, 0]


def test_a_broken_file_is_still_one_line(network):
    pytest.importorskip('onnxruntime')
    with pytest.raises(WeightsError, match='cannot be read as a network'):
        open_network(network, 'onnxruntime', device='cpu')
