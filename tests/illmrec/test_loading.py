"""Language models that must be refused when they are loaded, each in one line, and those that must not be."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken

from illmrec.errors import InputError
from illmrec.model.backbone import load_backbone

PANICS = """{"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
 "merges": [["a", "b"]], "continuing_subword_prefix": "abc"}}"""
"""A tokenizer that ends its library's Rust, which Python sees as no Exception."""
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4096\n"
UP = "model.layers.1.mlp.up_proj.weight"
State = dict[str, torch.Tensor]


@pytest.fixture
def folder(tiny_llm: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llm, tmp_path / "llm"))


def edit_weights(folder: Path, change: Callable[[State], State]) -> None:
    path, changed = folder / "model.safetensors", folder / "changed"
    save_file(change(load_file(path)), changed, metadata={"format": "pt"})
    changed.replace(path)  # another file: what was read from the first may still be a view of it


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def shard(folder: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")


def message(folder: Path | str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(str(folder), **{"dtype": "float32", **options})
    text = str(caught.value)
    assert text.startswith(f"--llm {folder}") and "\n" not in text
    assert len(text.removeprefix(f"--llm {folder}")) < 320
    return text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, "compiled model"),
        (lambda s: {f"base_model.model.{k}": v for k, v in s.items()}, "merge_and_unload"),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, "parallel wrapper"),
        (lambda s: {f"net.{k}": v for k, v in s.items()}, "the files have net."),
        (lambda s: {k: v for k, v in s.items() if ".layers.1." not in k}, "9 weights are missing: model.layers.1."),
        (lambda s: {k: v for k, v in s.items() if k != "lm_head.weight"}, "missing: lm_head.weight"),
        (
            lambda s: {k: v for k, v in s.items() if k != "lm_head.weight"} | {"score.weight": torch.ones(1, 32)},
            "classifier or reward model",
        ),
        (lambda s: s | {"score.weight": torch.randn(1, 32)}, "score.weight.*classifier"),
        (lambda s: s | {UP: s[UP][:60].clone()}, r"up_proj.weight has shape \(60, 32\).*\(64, 32\)"),
        (lambda s: s | {"model.layers.3.mlp.up_proj.weight": s[UP].clone()}, "model.layers.3.*no place"),
        (lambda s: s | {"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}, "q_norm.*no place"),
        (lambda s: s | {UP: s[UP] * float("nan")}, f"{UP} is not finite"),
        (lambda s: s | {UP: s[UP].index_fill(0, torch.tensor([3]), float("inf"))}, f"{UP} is not finite"),
        (lambda s: s | {UP: torch.zeros_like(s[UP])}, f"{UP} is 0 everywhere"),
        (lambda s: {k: torch.full_like(v, 0.5) for k, v in s.items()}, "is 0.5 everywhere"),
        (lambda s: s | {UP: s[UP].mul(100).to(torch.int8)}, r"up_proj.weight \(I8\): quantised"),
        (lambda s: s | {UP: s[UP].to(torch.float8_e4m3fn)}, "quantised"),
        (lambda s: s | {f"{UP[:-6]}qweight": torch.ones(4, 4, dtype=torch.int32)}, "qweight.*quantised"),
        (lambda s: {}, "holds no weights"),
    ],
)  # fmt: skip
def test_weights_that_do_not_make_the_model(folder: Path, change: Callable, expected: str) -> None:
    edit_weights(folder, change)
    import re

    assert re.search(expected, message(folder)), message(folder)


def test_float16_that_is_too_narrow_is_said(folder: Path) -> None:
    edit_weights(folder, lambda s: s | {UP: s[UP] * 1e7})
    assert "--dtype float32" in message(folder, dtype="float16")
    load_backbone(str(folder), dtype="float32")


def test_only_the_layers_that_are_kept_need_be_numbers(folder: Path) -> None:
    edit_weights(folder, lambda s: s | {UP: s[UP] * float("nan")})
    assert load_backbone(str(folder), layers=1, dtype="float32").layers == 1


@pytest.mark.parametrize("prefix", ["", "model.model."])
def test_base_model_prefixes_load_the_same_weights(folder: Path, prefix: str) -> None:
    """The library itself takes names with or without the base model's prefix."""
    expected = load_file(folder / "model.safetensors")
    edit_weights(folder, lambda s: {k.replace("model.", prefix, 1): v for k, v in s.items()})
    state = load_backbone(str(folder), dtype="float32").model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_tied_head_and_old_buffers_may_be_absent_and_present(folder: Path) -> None:
    edit_json(folder / "config.json", tie_word_embeddings=True)
    inverse = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    edit_weights(folder, lambda s: {k: v for k, v in s.items() if k != "lm_head.weight"} | inverse)
    backbone = load_backbone(str(folder), dtype="float32")
    assert torch.equal(
        backbone.model.lm_head.weight, load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("model.safetensors", POINTER, "model.safetensors is a Git LFS pointer.*git lfs pull"),
        ("tokenizer.json", POINTER, "tokenizer.json is a Git LFS pointer"),
        ("tokenizer.model", POINTER, "tokenizer.model is a Git LFS pointer"),
        ("config.json", POINTER, "config.json is a Git LFS pointer"),
        ("model.safetensors", "<!DOCTYPE html><html>404</html>", "model.safetensors is a web page"),
        ("config.json", "\n<html>rate limit</html>", "config.json is a web page"),
        ("model.safetensors", "", "model.safetensors is empty"),
        ("model.safetensors", "Entry not found", "model.safetensors is damaged"),
        ("config.json", "{", "config.json is not valid JSON"),
        ("config.json", "[]", "config.json holds no object"),
        ("config.json", '{"model_type": "llama", "hidden_size": "x"}', "llm: "),
        ("config.json", '{"model_type": "nosuch"}', "nosuch"),
        ("config.json", f'{{"model_type": "llama", "num_hidden_layers": {2**70}}}', "no model has more than 1,000"),
        ("config.json", '{"model_type": "llama", "text_config": {"num_labels": 2000000000}}', "num_labels 2000000000"),
        ("config.json", '{"model_type": "swin", "depths": [2, 9999999999]}', "depths .2, 9999999999"),
        ("config.json", "{}", "llm: "),
        ("tokenizer.json", "{}", "KeyError|tokenizer"),
        ("tokenizer.json", '{"version": "1.0", "added', "tokenizer.json is not valid JSON"),
        ("tokenizer.json", PANICS, "PanicException: range end index"),
        ("tokenizer_config.json", "oops", "tokenizer_config.json is not valid JSON"),
        ("model.safetensors.index.json", "{}", "both model.safetensors and model.safetensors.index.json"),
    ],
)  # fmt: skip
def test_files_that_are_not_what_their_names_say(
    folder: Path, name: str, content: str, expected: str
) -> None:
    import re

    (folder / name).write_text(content)
    assert re.search(expected, message(folder))


def test_file_cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "model.safetensors is damaged" in message(folder)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert "model.safetensors is damaged" in message(folder)


def test_shards(folder: Path) -> None:
    plain = load_backbone(str(folder), dtype="float32").fingerprint
    shard(folder)
    assert load_backbone(str(folder), dtype="float32").fingerprint == plain
    first = sorted(folder.glob("model-*.safetensors"))[0]
    kept = first.read_bytes()
    first.write_text(POINTER)
    assert f"{first.name} is a Git LFS pointer" in message(folder)
    first.unlink()
    assert f"{first.name} is not there (1 of" in message(folder)
    first.symlink_to(folder / "gone")
    assert "link to a file that is not there" in message(folder)
    first.unlink()
    first.write_bytes(kept)
    index = folder / "model.safetensors.index.json"
    content = index.read_text()
    for broken, expected in [("{", "not valid JSON"), ("{}", "no 'weight_map'"), ("[]", "no 'weight_map'")]:
        index.write_text(broken)
        assert expected in message(folder)
    index.write_text(content)
    save_file(
        {"lm_head.weight": torch.ones(1, 1)}, first, metadata={"format": "pt"}
    )  # another shard's content
    assert "weights are missing" in message(folder) or "has shape" in message(folder)
    index.unlink()
    assert "one of several shards" in message(folder)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, r"quantised \(bitsandbytes\)"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, r"quantised \(gptq\)"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, r"quantised \(awq\)"),
        ({"quantization_config": {"quant_method": "fp8"}}, r"quantised \(fp8\)"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification, not a causal"),
        ({"architectures": ["LlamaForRewardModel"]}, "LlamaForRewardModel, not a causal"),
        ({"is_encoder_decoder": True}, "encoder and a decoder"),
        ({"is_causal": False}, "both directions"),
        ({"model_type": "t5"}, "encoder and a decoder"),
        ({"model_type": "bert"}, r"an encoder \(bert\)"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}, "code of its own.*never run"),
        ({"vocab_size": 300}, "has shape"),
    ],
)  # fmt: skip
def test_configurations_that_are_refused(folder: Path, values: dict, expected: str) -> None:
    import re

    edit_json(folder / "config.json", **values)
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    assert re.search(expected, message(folder)), message(folder)
    assert not (folder / "ran").exists()


SMALL = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 400,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "kind", "changes", "refused"),
    [
        ("BertConfig", "BertForMaskedLM", {}, "an encoder"),
        ("BertConfig", "BertModel", {}, "an encoder"),
        ("LlamaConfig", "LlamaForSequenceClassification", {"tie_word_embeddings": True}, "not a causal"),
        ("LlamaConfig", "LlamaModel", {}, "missing: lm_head.weight"),
        ("LlamaConfig", "LlamaModel", {"tie_word_embeddings": True}, None),
        ("BertConfig", "BertLMHeadModel", {"is_decoder": True}, None),
        (
            "Qwen2Config",
            "Qwen2ForCausalLM",
            {},
            None,
        ),  # its tokenizer class brings a special token without a row
    ],
)
def test_checkpoints_of_other_kinds(
    folder: Path, config: str, kind: str, changes: dict, refused: str | None
) -> None:
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    getattr(transformers, kind)(getattr(transformers, config)(**SMALL, **changes)).save_pretrained(folder)
    if refused is None:
        load_backbone(str(folder), dtype="float32")
    else:
        assert refused in message(folder)


def test_code_beside_a_known_architecture_is_not_run(folder: Path) -> None:
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    edit_json(
        folder / "config.json", auto_map={"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.OwnConfig"}
    )
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Slow", "own.Fast"]})
    load_backbone(str(folder), dtype="float32")
    assert not (folder / "ran").exists()


def test_adapters(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "a/b"}')
    assert "merge_and_unload" in message(folder)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    assert "holds an adapter" in message(folder)


def test_pytorch_format_is_read_without_running_code(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = load_backbone(str(folder), dtype="float32").fingerprint
    path = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), path)
    (folder / "model.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        assert load_backbone(str(folder), dtype="float32").fingerprint == plain
    assert "pickle" in caplog.text
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "pytorch_model.bin is cut short" in message(folder)
    path.write_text(POINTER)
    assert "pytorch_model.bin is a Git LFS pointer" in message(folder)

    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (folder / "ran",))

    torch.save({"lm_head.weight": Harmful()}, path)
    message(folder)
    assert not (folder / "ran").exists()


def test_tokenizers(folder: Path, tmp_path: Path) -> None:
    original = transformers.AutoTokenizer.from_pretrained(folder)
    rows = len(original)
    original.add_tokens([AddedToken("teapot", special=False)])
    original.save_pretrained(folder)
    assert f"token 'teapot' has id {rows}, the model has rows 0 to {rows - 1}" in message(folder)
    # The remedy: a row for it.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(rows + 1)
    model.save_pretrained(folder)
    assert len(load_backbone(str(folder), dtype="float32").embeddings.weight) == rows + 1
    # A special token that no text can spell needs no row (Gemma 3 has one for pictures); padding must have one.
    original.add_tokens([AddedToken("<image>", special=True)])
    original.save_pretrained(folder)
    load_backbone(str(folder), dtype="float32")
    original.add_special_tokens({"pad_token": "[PAD]"})
    original.save_pretrained(folder)
    assert load_backbone(str(folder), dtype="float32").tokenizer.pad_token == "</s>"
    original.add_special_tokens({"bos_token": "[BOS]"})
    original.add_bos_token = True
    original.save_pretrained(folder)
    assert "token '[BOS]'" in message(folder)


def test_tokenizer_that_reads_everything_as_unknown(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<unk>": 0, "赤い": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
    assert "as unknown" in message(folder)


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert "it holds no tokenizer.json or tokenizer_config.json; put" in message(folder)


def test_places_that_are_no_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no config.json; give" in message(tmp_path / "empty")
    assert "did you mean its folder 'llm'" in message(tmp_path)
    assert "there is no such folder" in message(tmp_path / "nowhere")
    assert "is a file; give the folder" in message(folder / "model.safetensors")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "there is no such folder" in message(tmp_path / "loop")
    (tmp_path / "llm.Q4.gguf").write_bytes(b"GGUF")
    assert "GGUF files are not read" in message(tmp_path / "llm.Q4.gguf")
    shutil.copy(tmp_path / "llm.Q4.gguf", tmp_path / "empty")
    assert "GGUF files are not read" in message(tmp_path / "empty")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert "consolidated.safetensors is not read" in message(folder)
    (folder / "consolidated.safetensors").unlink()
    assert "holds no weights" in message(folder)


def test_home_and_spelling_of_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_backbone("~/llm", dtype="float32").name == "~/llm"


def test_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    assert "cannot be read (Permission denied)" in message(folder)


@pytest.mark.parametrize("adds", [False, True])
def test_gemma_gets_its_begin_token(folder: Path, adds: bool, caplog: pytest.LogCaptureFixture) -> None:
    from illmrec.prompts.packing import begin_ids

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_bos_token = adds
    tokenizer.save_pretrained(folder)
    config = transformers.Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    transformers.Gemma3ForCausalLM(config).save_pretrained(folder)
    with caplog.at_level(logging.WARNING):
        backbone = load_backbone(str(folder), dtype="float32")
    ids = begin_ids(backbone.tokenizer, "red mug")
    assert ids[0] == 0 and ids[1] != 0
    assert ("begin token" in caplog.text) is not adds


@pytest.mark.parametrize("damage", ["lfs", "cut", "bitsandbytes", "names"])
def test_command_ends_with_status_2_and_one_line(folder: Path, refusal: Callable, damage: str) -> None:
    from bench.comparison import main

    if damage == "lfs":
        (folder / "model.safetensors").write_text(POINTER)
    elif damage == "cut":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    elif damage == "bitsandbytes":
        edit_json(
            folder / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
        )
    else:
        edit_weights(folder, lambda s: {f"_orig_mod.{k}": v for k, v in s.items()})
    error = refusal(main, ["--dataset", "toyshop", "--methods", "tallrec", "--llm", str(folder)])
    assert error.startswith(f"error: --llm {folder}: ")
