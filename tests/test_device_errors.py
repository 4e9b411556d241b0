"""Errors of PyTorch about memory and devices, in one line."""

import numpy as np
import pytest
import torch

from hrformer_mmpose.errors import ConfigError, DeviceError, UserError, device_errors, smaller_batch

CUDA = 'CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB'


@pytest.mark.parametrize(
    'error',
    [
        torch.OutOfMemoryError(CUDA),
        RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
def test_out_of_memory(error):
    with pytest.raises(DeviceError) as caught, device_errors(lambda: 'halve batch_size: 16'):
        raise error
    assert str(caught.value) == 'out of memory: halve batch_size: 16'
    assert isinstance(caught.value, UserError)
    assert caught.value.__cause__ is error


def test_an_error_for_which_the_config_was_blamed():
    error = torch.OutOfMemoryError(CUDA)
    with pytest.raises(DeviceError, match=r'^out of memory: less$'), device_errors(lambda: 'less'):
        raise ConfigError(f'model.backbone: OutOfMemoryError: {CUDA}') from error


@pytest.mark.parametrize(
    'allocate', [lambda: torch.empty(2**60), lambda: np.empty(2**60, np.uint8)]
)
def test_real_errors_of_a_cpu(allocate):
    with pytest.raises(DeviceError, match=r'^out of memory: less$'), device_errors(lambda: 'less'):
        allocate()


def test_no_kernels():
    error = torch.AcceleratorError(
        'CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors'
    )
    with pytest.raises(DeviceError) as caught, device_errors(lambda: ''):
        raise error
    assert str(caught.value) == (
        'this build of PyTorch has no kernels for this GPU: `hrformer doctor` names one that has, '
        'or use the CPU'
    )


@pytest.mark.parametrize(
    'message',
    [
        'Expected all tensors to be on the same device, but found at least two devices, cuda:0 and '
        'cpu!',
        'Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the '
        'same or input should be a MKLDNN tensor and weight is a dense tensor',
        'Input type (torch.cuda.HalfTensor) and bias type (torch.HalfTensor) should be the same',
        'hrformer_mmpose::layer_norm: gamma is on cpu, not on cuda:0',
    ],
)
def test_two_devices(message):
    with pytest.raises(DeviceError) as caught, device_errors(lambda: ''):
        raise RuntimeError(message)
    assert str(caught.value).startswith(f'tensors are on different devices ({message}')
    assert 'model.to(device)' in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('Input type (float) and bias type (c10::Half) should be the same'),
        RuntimeError('Input type (torch.cuda.FloatTensor) and weight type (torch.cuda.HalfTensor)'),
        RuntimeError('mat1 and mat2 shapes cannot be multiplied'),
        ValueError('out of memory'),
        ConfigError('out of memory'),
        DeviceError('out of memory: less'),
    ],
)
def test_other_errors_stay(error):
    with pytest.raises(type(error)) as caught, device_errors(lambda: ''):
        raise error
    assert caught.value is error


def test_the_advice_names_half_the_batch():
    assert smaller_batch('batch_size', 32, 'persons') == (
        'a batch of 32 persons does not fit, halve batch_size: 16'
    )
    assert smaller_batch('batch_size', 1) == (
        'not even batch_size=1 fits: take a smaller network, or half precision'
    )
