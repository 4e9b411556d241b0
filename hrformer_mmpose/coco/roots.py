"""Environment variables that name the folders of data sets, for messages about missing files."""

_COCO = 'COCO_ROOT', 'annotations/, train2017/ and val2017/'
# By the metainfo's dataset_name: the variable that the configs read, and what the folder holds.
ROOTS = dict(
    coco=_COCO,
    coco_wholebody=_COCO,
    coco_wholebody_hand=_COCO,
    crowdpose=('CROWDPOSE_ROOT', 'annotations/ and images/'),
    ochuman=('OCHUMAN_ROOT', 'annotations/ and images/'),
    mpii=('MPII_ROOT', 'annotations/ and images/'),
    aic=(
        'AIC_ROOT',
        'annotations/, ai_challenger_keypoint_train_20170902/ and '
        'ai_challenger_keypoint_validation_20170911/',
    ),
    halpe26=('HALPE_ROOT', 'annotations/, hico_20160224_det/ and val2017/'),
    ap10k=('AP10K_ROOT', 'annotations/ and data/'),
    onehand10k=('ONEHAND10K_ROOT', 'annotations/, Train/ and Test/'),
)


HINT = 'correct the path, or data_root of the config'


def hint(dataset_name: str) -> str:
    """Advise on a missing file or folder of a data set."""
    if dataset_name not in ROOTS:
        return HINT
    variable, folders = ROOTS[dataset_name]
    return (
        f'set {variable}, or the variable that data_root of the config names, to the folder that '
        f'holds {folders}'
    )
