"""Model card of a folder that `PoseEstimator.save_pretrained` writes."""

import json
from collections.abc import Mapping
from typing import Any

USE = """```python
from hrformer_mmpose import PoseEstimator

estimator = PoseEstimator.from_pretrained('FOLDER')  # this folder, or hf://OWNER/REPO@REVISION
poses = estimator('image.jpg', boxes=[[48, 20, 210, 430]])  # x0, y0, x1, y1 of each person
```"""


def model_card(settings: Mapping[str, Any], results: Mapping[str, float], source: str) -> str:
    """Return the text of the card, with metadata of the Hugging Face Hub at its head.

    Args:
        settings: content of the folder's `config.json`.
        results: metrics, by name.
        source: how the metrics were measured.
    """
    network, keypoints = settings['network'], settings['keypoints']
    w, h = settings['input_size']
    facts = {
        'config': settings['name'],
        'network': network['architecture'],
        'parameters': f'{network["parameters"]:,}',
        'input': f'{w}x{h} pixels (width x height), RGB crops of one person',
        'keypoints': f'{len(keypoints)}: {", ".join(keypoints)}',
        'codec': settings['model']['head'].get('decoder', {}).get('type', 'of the head'),
        'flip test': 'yes' if (settings['model'].get('test_cfg') or {}).get('flip_test') else 'no',
        'SHA-256 of the weights': settings['sha256'],
        'made of': f'{settings["checkpoint"]}, by hrformer_mmpose {settings["version"]}',
    }
    table = ''.join(f'| {key} | {value} |\n' for key, value in facts.items())
    return (
        f'{_metadata(settings["name"], results, source)}\n'
        f'# {settings["name"]}\n\nTop-down pose estimation: keypoints of a person in a box.\n\n'
        f'{USE}\n\n| | |\n|---|---|\n{table}\n## Results\n\n{_results(results, source)}'
    )


def _results(results: Mapping[str, float], source: str) -> str:
    if not results:
        return 'No test was given when this folder was written: its accuracy is not stated.\n'
    rows = ''.join(f'| {name} | {value:.4f} |\n' for name, value in results.items())
    return f'Measured by {source}.\n\n| metric | value |\n|---|---|\n{rows}'


def _metadata(name: str, results: Mapping[str, float], source: str) -> str:
    """Return the metadata; JSON is valid YAML."""
    data: dict[str, Any] = dict(
        library_name='hrformer_mmpose',
        pipeline_tag='keypoint-detection',
        tags=['pose-estimation', 'hrformer', 'mmpose'],
    )
    if results:
        metrics = [dict(type=key, name=key, value=value) for key, value in results.items()]
        result = dict(
            task=dict(type='keypoint-detection', name='Pose estimation'),
            dataset=dict(type='custom', name=source),
            metrics=metrics,
        )
        data['model-index'] = [dict(name=name, results=[result])]
    lines = ''.join(f'{key}: {json.dumps(value)}\n' for key, value in data.items())
    return f'---\n{lines}---\n'
