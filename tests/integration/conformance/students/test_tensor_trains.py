"""Token embeddings as tensor trains, in every family: the teacher at full rank, saved and loaded."""

import copy

import torch
from transformers import AutoModel

from students.forms.embeddings import TensorTrain
from students.kinds.transformer import Transformer
from students.structure.places import select_modules
from students.structure.tensor_train import embedding_matrix, set_tensor_train, tensor_train_shape, tensor_train_svd
from tests.helpers.families import _auto, batch, tiny


def logits(model: torch.nn.Module, name: str) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**{key: value for key, value in batch(name).items() if key != "labels"}).logits


def test_at_full_rank_the_model_is_the_teacher(name):
    model = tiny(name)
    before, table = logits(model, name), model.get_input_embeddings().weight.detach()
    form = tensor_train_shape(*table.shape, 10**6)
    numbers = tensor_train_svd(table, form)
    set_tensor_train(model, form)
    for core, values in zip(model.get_input_embeddings().cores, numbers, strict=True):
        core.weight.data.copy_(values)
    torch.testing.assert_close(logits(model, name), before, rtol=0, atol=1e-4)
    torch.testing.assert_close(embedding_matrix(model), table, rtol=0, atol=1e-5)


def test_saved_and_loaded_it_is_the_same_model(name, tmp_path):
    teacher = tiny(name)
    model = Transformer(embeddings=TensorTrain(rank=3)).build(teacher, None, None)
    (first, second, third), width = (
        model.config.embeddings["vocab_factors"],
        teacher.get_input_embeddings().weight.numel(),
    )
    a, b, c = model.config.embeddings["width_factors"]
    (r, s) = model.config.embeddings["ranks"]
    assert teacher.num_parameters() - model.num_parameters() == width - (
        first * a * r + second * r * b * s + third * s * c
    )
    before = logits(model, name)
    assert not torch.allclose(before, logits(teacher, name), atol=1e-3)
    model.save_pretrained(tmp_path)
    loaded, loading = _auto(name, "classification").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    assert type(loaded) is type(model)
    torch.testing.assert_close(logits(loaded, name), before, rtol=0, atol=1e-6)
    assert torch.equal(logits(copy.deepcopy(model), name), before)
    inner = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(embedding_matrix(inner), embedding_matrix(model))
    assert len([path for path in select_modules(model, ["embeddings"])[0] if ".cores." in path]) == 3
