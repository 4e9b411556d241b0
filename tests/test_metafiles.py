"""metafile.yml and model-index.yml, read by MMEngine's and mim's own code; CITATION.cff."""

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip('mmpose')
import yaml
from mmengine.config.utils import _get_cfg_metainfo
from mmengine.infer import BaseInferencer
from mmpose.apis.inferencers import MMPoseInferencer, Pose2DInferencer, get_model_aliases

from hrformer_mmpose import __version__, zoo
from hrformer_mmpose.checkpoint import published
from tests.conftest import ROOT

SCOPE = 'hrformer_mmpose'


@pytest.fixture(scope='module')
def models() -> dict[str, dict]:
    """Entries by name, as MMEngine finds them for the scope."""
    folder = BaseInferencer._get_repo_or_mim_dir(SCOPE)
    assert Path(folder) == ROOT
    return {entry['Name']: entry for entry in BaseInferencer._get_models_from_metafile(folder)}


def test_files_are_current():
    path = ROOT / 'docs/refresh_metafiles.py'
    spec = importlib.util.spec_from_file_location('refresh_metafiles', path)
    refresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refresh)
    files = refresh.files()
    assert set(files) == {*ROOT.glob('configs/**/metafile.yml'), ROOT / 'model-index.yml'}
    for file, text in files.items():
        assert file.read_text(encoding='utf-8') == text, 'run python docs/refresh_metafiles.py'


def test_every_config_is_found_and_no_path_is_stale(models):
    assert sorted(models) == zoo.names()
    for name, entry in models.items():
        assert (ROOT / entry['Config']).samefile(zoo.find(name))


def test_entries_have_the_fields_of_mmposes(models):
    import mmpose

    mim = Path(mmpose.__file__).parent / '.mim'
    theirs = next(
        entry
        for entry in BaseInferencer._get_models_from_metafile(str(mim))
        if entry['Name'] == 'td-hm_hrformer-base_8xb32-210e_coco-256x192'
    )
    ours = models['hrformer_base_coco_256x192']
    assert ours.keys() == theirs.keys()
    for key in ('In Collection', 'Metadata', 'Weights'):
        assert ours[key] == theirs[key]
    assert ours['Results'] == theirs['Results']
    for name in published.FILES.keys() & models.keys():
        assert models[name]['Weights'] == published.FILES[name].address
    assert sum(entry['Weights'] is not None for entry in models.values()) == 20


@pytest.mark.slow
def test_mmposes_inferencers_take_a_name(recwarn):
    infer = Pose2DInferencer(
        'hrformer_tiny_coco_256x192', scope=SCOPE, device='cpu', det_model='whole_image'
    )
    assert Path(infer.cfg.filename).samefile(ROOT / 'configs/hrformer_tiny_coco_256x192.py')
    assert type(infer.model.backbone).__module__.startswith('hrformer_mmpose.')
    cfg, weights = infer._load_model_from_metafile('hrformer_base_coco_384x288')
    assert cfg.model.backbone.arch == 'base'
    assert weights == published.FILES['hrformer_base_coco_384x288'].address
    assert get_model_aliases(SCOPE) == {}
    assert 'hrformer_small_coco_256x192_udp' in MMPoseInferencer.list_models(SCOPE)


def test_mmengines_hub_reads_an_installed_package(tmp_path):
    """A wheel has all this in the folder `.mim` of the package."""
    (tmp_path / '.mim').symlink_to(ROOT)
    entry = _get_cfg_metainfo(str(tmp_path), 'codecs/hrformer_base_coco_256x192_udp.py')
    assert entry['Name'] == 'hrformer_base_coco_256x192_udp'


def test_mim_reads_them():
    """`mim search hrformer-mmpose` and `mim download` use this."""
    search = pytest.importorskip('mim.commands.search')
    metadata = search.load(str(ROOT / 'model-index.yml'))
    table = search.convert2df(metadata)
    assert sorted(table.index) == zoo.names()
    found = search.filter_by_models(table, ['hrformer'])
    assert 'hrformer_base_coco_256x192' in found.index
    assert 'swin_tiny_coco_256x192' not in found.index
    row = table.loc['hrformer_base_coco_256x192']
    assert row['weight'] == published.FILES['hrformer_base_coco_256x192'].address
    assert json.dumps(row['config']) == '"configs/hrformer_base_coco_256x192.py"'


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert citation['cff-version'] == '1.2.0'
    assert {'message', 'title', 'authors'} <= citation.keys()  # required
    assert citation['version'] == __version__
    assert len(citation['preferred-citation']['authors']) == 7
