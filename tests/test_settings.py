from __future__ import annotations

from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from plankton_embed.errors import InputError, SettingError
from plankton_embed.network.pretrained import choose_weights
from plankton_embed.settings import (
    OBJECTIVES,
    PRESETS,
    ObjectiveName,
    PreparationSettings,
    Settings,
)

NAMES = list(Settings().flat())
APART = {("instant", "reference_2019")}  # a frozen trunk of sigmoids
TOGETHER = [(p, o) for p in PRESETS for o in OBJECTIVES if (p, o) not in APART]
OTHER_PREPARATION = {"target_size": 299, "background": "white", "color": "color", "white_level_16bit": 4095}
OLD_HASHES = [({}, "372c992ede50d716"), ({**OTHER_PREPARATION}, "3d98b684b8e39631")]  # before there was remove_marks
OTHER_PREPARATION |= {"scaling_16bit": "image", "remove_marks": "off", "polarity": "light_on_dark", "scaling": "fill"}


@pytest.fixture
def write(tmp_path):
    """Write a settings file."""

    def write_text(text, encoding="utf-8"):
        path = tmp_path / "settings.yaml"
        path.write_text(text, encoding=encoding)
        return path

    return write_text


def test_the_cpu_preset_is_the_default_small_and_starts_from_the_model_of_the_package():
    cpu = Settings.build()
    assert cpu == Settings.build("cpu")
    assert cpu.preparation.target_size == 96
    assert (cpu.network.trunk, cpu.network.weights, cpu.network.frozen) == ("resnet18", "auto", False)


def test_another_preset_is_the_default_where_wanted_and_does_not_count_as_given():
    instant = Settings.build(default="instant", overrides=["embedding.views=2"])
    assert instant == Settings.build("instant", overrides=["embedding.views=2"])
    assert instant.network.frozen
    assert instant.given == {"embedding.views"}
    assert Settings.build("quick", default="instant") == Settings.build("quick")


@pytest.mark.parametrize(
    "unused", [{"training.epochs": 3}, {"augmentation.flip": False}, {"network.dropout": 0.1}, {"training.ema": 0.9}]
)
def test_settings_of_training_are_not_used_where_the_trunk_is_frozen(unused):
    built = Settings.build("instant", overrides={**unused, "training.tensorboard": True, "embedding.views": 2})
    assert built.list_unused() == list(unused)
    assert Settings.build("instant", overrides={**unused, "network.frozen": False}).list_unused() == []


def test_weights_replaced_do_not_count_as_given():
    built = Settings.build(overrides=["training.epochs=3"])
    changed = built.with_weights("here")
    assert changed.network.weights == "here"
    assert changed.given == built.given == {"training.epochs"}
    assert changed.with_weights("auto") == built


def test_the_gpu_preset_is_large_long_and_starts_from_the_model_of_the_package():
    gpu = Settings.build("gpu")
    assert gpu.network.trunk == "inception_v3"
    assert gpu.preparation.target_size == 299
    assert choose_weights(gpu.network) == "isiis-inception-v3"
    assert (gpu.preparation.polarity, gpu.preparation.scaling) == ("dark_on_light", "fill")
    assert gpu.training.epochs > Settings().training.epochs


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_changes_its_settings_and_nothing_else(preset):
    plain, changed = Settings().flat(), Settings.build(preset).flat()
    assert {name: value for name, value in changed.items() if value != plain[name]} == PRESETS[preset]


def test_an_unknown_preset_is_refused_with_a_list_of_the_others():
    with pytest.raises(SettingError, match=r"instant, quick, cpu, gpu; found 'tpu'"):
        Settings.build("tpu")


def test_the_later_wins_preset_then_file_then_override(write):
    path = write("training:\n  epochs: 7\n  margin: 0.3\n")
    built = Settings.build("gpu", path, ["training.epochs=9"])
    assert (built.training.epochs, built.training.margin) == (9, 0.3)
    assert built.training.classes_per_batch == 32  # of the preset, which the group in the file leaves alone


@pytest.mark.parametrize(
    "overrides",
    [{"training.epochs": 3}, {"training": {"epochs": 3}}, ["training.epochs=3"], [" training.epochs = 3 "]],
)
def test_overrides_come_nested_dotted_or_as_text(overrides):
    assert Settings.build("gpu", overrides=overrides) == Settings.build(
        "gpu", overrides={**PRESETS["gpu"], "training.epochs": 3}
    )


def test_nested_overrides_are_not_changed_by_building():
    given_values = {"training": {"epochs": 3}, "training.margin": 0.5}
    Settings.build(overrides=given_values)
    assert given_values == {"training": {"epochs": 3}, "training.margin": 0.5}


@pytest.mark.parametrize("text", ["", "# nothing\n", "training: {}\n"])
def test_a_file_that_says_nothing_changes_nothing(write, text):
    assert Settings.build("gpu", write(text)) == Settings.build("gpu")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("training.learning_rate=1e-3", "training.learning_rate", 0.001),
        ("training.learning_rate=2E-4", "training.learning_rate", 0.0002),
        ("training.epochs=1e2", "training.epochs", 100),
        ("split.fractions=[.8, .1, .1]", "split.fractions", [0.8, 0.1, 0.1]),
        ("split.fractions=[0.8, 1e-1, 1e-1]", "split.fractions", [0.8, 0.1, 0.1]),
        ("split.group_by=sample_id", "split.group_by", "sample_id"),
        ("split.group_by=null", "split.group_by", None),
        ("network.weights=a=b.safetensors", "network.weights", "a=b.safetensors"),
        ("augmentation.flip=false", "augmentation.flip", False),
    ],
)
def test_text_values_are_read_as_what_they_mean(text, name, value):
    assert Settings.build(overrides=[text]).flat()[name] == value


def test_a_small_number_in_a_file_is_a_number(write):
    assert Settings.load(write("training: {learning_rate: 1e-3}")).training.learning_rate == 0.001


@pytest.mark.parametrize("preset", PRESETS)
def test_yaml_round_trip(tmp_path, preset):
    settings = Settings.build(
        preset,
        overrides={"training.learning_rate": 1.3e-7, "split.group_by": "Prøve <1>", "network.weights": "a: b#c"},
    )
    settings.save(tmp_path / "deep" / "settings.yaml")
    assert Settings.load(tmp_path / "deep" / "settings.yaml") == settings


@pytest.mark.parametrize(("preset", "objective"), TOGETHER)
def test_yaml_round_trip_of_every_objective(tmp_path, preset, objective):
    settings = Settings.build(preset, overrides={"training.objective": objective, "training.epochs": 7})
    settings.save(tmp_path / "settings.yaml")
    assert Settings.load(tmp_path / "settings.yaml") == settings


def test_the_saved_file_states_every_setting(tmp_path):
    Settings().save(tmp_path / "s.yaml")
    groups = yaml.safe_load((tmp_path / "s.yaml").read_text())
    assert {f"{g}.{n}" for g, v in groups.items() if isinstance(v, dict) for n in v} | {"seed"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [lambda n: n + "s", lambda n: n[:-1], lambda n: n.replace("_", "-") + "_"])
def test_every_misspelt_name_is_refused_and_the_right_one_offered(name, damage):
    with pytest.raises(SettingError) as fault:
        Settings.build(overrides={damage(name): 1})
    assert str(fault.value) == f"setting {damage(name)} is not known; did you mean {name}?"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("epoch", "training.epochs"),
        ("lerning_rate", "training.learning_rate"),
        ("trainin.epochs", "training.epochs"),
        ("preparation.size", "preparation.target_size"),
        ("classification.k_neighbors", "classification.n_neighbors"),
    ],
)
def test_the_group_may_be_left_out_or_misspelt_too(wrong, right):
    with pytest.raises(SettingError, match=f"^setting {wrong} is not known; did you mean {right}\\?$"):
        Settings.build(overrides=[f"{wrong}=1"])


def test_every_fault_has_its_own_line(write):
    path = write("trainin: {epochs: 1, margn: 2}\nempty: {}\ntraining: {epochs: 0}\nseed: [1]\n")
    with pytest.raises(SettingError) as fault:
        Settings.load(path)
    lines = str(fault.value).splitlines()
    assert len(lines) == 5
    assert all(line.startswith("setting ") for line in lines)
    for start in ("trainin.epochs", "trainin.margn", "empty", "training.epochs", "seed"):
        assert sum(line.startswith(f"setting {start}") for line in lines) == 1


def test_a_trunk_that_takes_no_small_images_says_so():
    small = {"preparation.target_size": 64}
    assert Settings.build(overrides=small).preparation.target_size == 64
    with pytest.raises(SettingError, match="inception_v3 needs images of at least 75 pixels; found 64"):
        Settings.build(overrides={**small, "network.trunk": "inception_v3"})
    with pytest.raises(SettingError, match="inception_v3 needs images of at least 75 pixels; found 64"):
        Settings.build("quick", overrides={**small, "training.objective": "reference_2019"})


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("preparation.target_size=31", "31"),
        ("preparation.background=grey", "'grey'"),
        ("training.learning_rate=.inf", "inf"),
        ("training.learning_rate=.nan", "nan"),
        ("training.epochs=2.5", "2.5"),
        ("training.epochs=", "None"),
        ("training.margin=11", "11"),
        ("training.proxy_objective=triplet", "'triplet'"),
        ("training.proxy_share=1", "1"),
        ("training.angular_margin=1.6", "1.6"),
        ("training.temperature=0", "0"),
        ("training.ema=1", "1"),
        ("training.keep_checkpoints=0", "0"),
        ("training.optimizer=adam", "'adam'"),
        ("network.output=tanh", "'tanh'"),
        ("network.size_inputs=true", "True"),
        ("embedding.views=3", "3"),
        ("seed=-1", "-1"),
        ("split.fractions=[0.5, 0.5]", r"\[0.5, 0.5\]"),
        ("split.fractions=[0, 0.5, 0.5]", r"\[0, 0.5, 0.5\]"),
        ("split.fractions=[0.7, 0.2, 0.2]", r"\[0.7, 0.2, 0.2\]"),
        ("split.fractions=[1.1, -0.1, 0]", r"\[1.1, -0.1, 0\]"),
        ("training=5", "5"),
        ("seed={x: 1}", "{'x': 1}"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_line_with_what_was_found(override, found):
    name = override.partition("=")[0]
    with pytest.raises(SettingError, match=f"^setting {name}[^\n]*; found {found}$"):
        Settings.build(overrides=[override])


# --- objectives


def test_every_objective_is_of_use_by_its_name_alone():
    for objective in OBJECTIVES:
        assert Settings.build(overrides=[f"training.objective={objective}"]).training.objective == objective
    assert get_args(ObjectiveName) == tuple(OBJECTIVES)
    assert all(record.settings and set(record.defaults) <= set(NAMES) for record in OBJECTIVES.values())


def test_reference_2019_brings_its_recipe_along():
    built = Settings.build(overrides=["training.objective=reference_2019"])
    training = built.training
    assert (choose_weights(built.network), built.network.output) == ("imagenet", "sigmoid")
    assert (training.sampling, training.classes_per_batch, training.batch_images_per_class) == (
        "random_triplets",
        20,
        3,
    )
    assert (training.optimizer, training.learning_rate, training.schedule) == ("sgd", 0.01, "rounds")
    assert (training.margin, training.steps_per_epoch, training.weight_decay, training.warmup) == (5, 1000, 0, 0)
    assert set(built.augmentation.model_dump().values()) == {0}  # 0 and False


@pytest.mark.parametrize(("preset", "objective"), TOGETHER)
def test_an_objective_changes_its_settings_and_nothing_else(preset, objective):
    plain = Settings.build(preset).flat()
    changed = Settings.build(preset, overrides={"training.objective": objective}).flat()
    expected = {**plain, "training.objective": objective, **OBJECTIVES[objective].defaults}
    assert changed == expected


def test_the_objective_comes_after_the_preset():
    gpu = Settings.build("gpu", overrides=["training.objective=reference_2019"])
    assert gpu.training.classes_per_batch == 20  # 32 in the preset
    assert (gpu.training.epochs, gpu.training.images_per_class) == (100, 200)  # of the preset
    assert choose_weights(gpu.network) == "imagenet"


ASKED = {"objective": "reference_2019", "margin": 1.5, "classes_per_batch": 5}


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("training: {objective: reference_2019, margin: 1.5, classes_per_batch: 5}", []),
        ("training: {margin: 1.5, classes_per_batch: 5, objective: reference_2019}", []),
        ("training.margin: 1.5\ntraining.classes_per_batch: 5", ["training.objective=reference_2019"]),
        ("training: {objective: reference_2019, margin: 3, classes_per_batch: 5}", ["training.margin=1.5"]),
        ("training: {objective: triplet}", {"training": ASKED}),
        ("", {"training.margin": 1.5, "training": {"classes_per_batch": 5}, "training.objective": "reference_2019"}),
    ],
)
def test_given_settings_win_over_the_objective_in_every_order(write, text, overrides):
    built = Settings.build("gpu", write(text), overrides)
    assert {name: getattr(built.training, name) for name in ASKED} == ASKED
    assert built.network.output == "sigmoid"
    assert built.training.optimizer == "sgd"


def test_an_objective_that_is_overridden_leaves_nothing_behind(write):
    built = Settings.build("cpu", write("training: {objective: reference_2019}"), ["training.objective=triplet"])
    assert built == Settings.build(overrides=["training.objective=triplet"])


@pytest.mark.parametrize("value", ["triplets", "null", "[triplet]", "5", "{x: 1}"])
def test_an_unknown_objective_is_refused_with_a_list_of_the_others(value):
    with pytest.raises(SettingError, match=r"^setting training\.objective: .*'triplet'.*'reference_2019'; found .*$"):
        Settings.build(overrides=[f"training.objective={value}"])


TOGETHER = (
    r"^training\.objective=reference_2019, training\.sampling=random_triplets and network\.output=sigmoid go together; "
)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.sampling=random_triplets"], TOGETHER + "found scheduled, random_triplets and unit;"),
        (["network.output=sigmoid"], TOGETHER + "found scheduled, balanced and sigmoid;"),
        (["network.output=sigmoid", "training.sampling=random_triplets"], "found scheduled, random_triplets and sig"),
        (["training.objective=reference_2019", "network.output=unit"], TOGETHER + "found reference_2019, random_tri"),
        (["training.objective=reference_2019", "training.sampling=natural"], TOGETHER + "found reference_2019, natur"),
        (["training.objective=reference_2019", "training.batch_images_per_class=4"],
         r"^training\.batch_images_per_class must be 3 for random_triplets"),
        (["training.memory=1024", "training.objective=arcface"],
         r"^training\.memory is for triplet, multi_similarity, supcon, scheduled; arcface does not use it: leave "),
        (["training.memory=1024", "training.objective=reference_2019"], "; reference_2019 does not use it"),
        (["training.proxy_rate=20", "training.objective=triplet"], "proxy_rate is for .*; triplet does not"),
        (["training.angular_margin=0.3"], "angular_margin is for arcface; scheduled does not"),
        (["training.temperature=0.1", "training.proxy_objective=proxy_anchor"], "temperature is .*; scheduled does"),
        (["training.margin=0.5", "training.objective=supcon"], "margin is .*; supcon does not"),
        (["training.miner=all", "training.objective=normalized_softmax"], "miner is .*; normalized_softmax does"),
        (["training.memory=63", "training.objective=triplet"],
         r"^training\.memory: expected 0, or at least a batch \(64\); found 63$"),
        (["training.memory=1", "training.objective=supcon", "training.classes_per_batch=3"], r"\(12\); found 1$"),
    ],
)  # fmt: skip
def test_settings_that_cannot_go_together_are_refused_in_one_line(overrides, message):
    with pytest.raises(SettingError, match=message) as fault:
        Settings.build(overrides=overrides)
    assert "\n" not in str(fault.value)
    assert "setting :" not in str(fault.value)


def test_a_fault_of_one_setting_is_reported_before_those_of_several():
    with pytest.raises(SettingError, match=r"^setting training\.epochs: [^\n]*; found 0$"):
        Settings.build(overrides=["network.output=sigmoid", "training.epochs=0"])


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("triplet", {"margin": 0.5, "miner": "hard", "memory": 64}),
        ("supcon", {"temperature": 0.1, "memory": 64}),
        ("arcface", {"temperature": 0.1, "angular_margin": 0.3, "proxy_rate": 20}),
        ("scheduled", {"margin": 0.5, "memory": 64, "proxy_share": 0.5, "temperature": 0.1, "proxy_rate": 20}),
        ("scheduled", {"proxy_objective": "arcface", "angular_margin": 0.3}),
        ("reference_2019", {"form": "geometric", "margin": 1}),
    ],
)
def test_an_objective_takes_the_settings_it_reads(objective, changes):
    built = Settings.build(overrides={"training": {"objective": objective, **changes}})
    assert changes.items() <= built.training.model_dump().items()


@pytest.mark.parametrize("objective", ["triplet", "multi_similarity", "supcon", "scheduled"])
@pytest.mark.parametrize("memory", [0, 64, 4096])
def test_a_memory_of_a_batch_or_more_is_taken(objective, memory):
    built = Settings.build(overrides={"training.objective": objective, "training.memory": memory})
    assert built.training.memory == memory


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_views_are_1_2_4_or_8(views):
    assert Settings.build(overrides=[f"embedding.views={views}"]).embedding.views == views


# --- what cannot be read


@pytest.mark.parametrize("override", ["training.epochs", "network.weights=@x", "split.fractions=[1"])
def test_an_override_that_cannot_be_read_is_refused_and_shown(override):
    with pytest.raises(SettingError, match=r"=|YAML") as fault:
        Settings.build(overrides=[override])
    assert override.partition("=")[0] in str(fault.value)


def test_a_value_has_no_settings_below_it():
    with pytest.raises(SettingError, match="seed is a value, not a group"):
        Settings.build(overrides={"seed": 1, "seed.x": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1", "is not YAML"), ("- 1\n- 2\n", "expected names and values, found list"), ("just text", "found str")],
)
def test_a_file_that_is_not_a_settings_file_is_refused(write, text, message):
    with pytest.raises(InputError, match=rf"settings\.yaml.*{message}"):
        Settings.load(write(text))


def test_a_file_of_other_bytes_or_none_or_a_folder_is_refused(tmp_path, write):
    with pytest.raises(InputError, match="is not YAML"):
        Settings.load(write("a: ü", encoding="latin-1"))
    with pytest.raises(InputError, match=r"missing\.yaml does not exist"):
        Settings.load(tmp_path / "missing.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        Settings.load(tmp_path)


@pytest.mark.parametrize("name", PreparationSettings.model_fields)
def test_the_hash_changes_with_any_preparation_setting(name):
    changed = PreparationSettings(**{name: OTHER_PREPARATION[name]})
    assert changed.hash() != PreparationSettings().hash()
    assert len(changed.hash()) == 16


@pytest.mark.parametrize(("saved", "wanted"), OLD_HASHES)
def test_what_an_older_release_saved_keeps_its_hash_and_what_it_did(saved, wanted):
    old = PreparationSettings.from_saved({"white_level_16bit": 65535, **saved})
    assert (old.remove_marks, old.hash()) == ("off", wanted)
    assert PreparationSettings(**{**old.model_dump(), "remove_marks": "auto"}).hash() != wanted


def test_a_settings_file_of_an_older_release_means_what_it_did_and_a_users_own_file_the_defaults(write):
    path = write("preparation: {target_size: 64}\n")
    assert Settings.load(path).preparation.remove_marks == "off"
    assert Settings.build(file=path).preparation.remove_marks == "auto"
    assert Settings.build(file=path).network.trunk == Settings.load(path).network.trunk == "resnet18"


@pytest.mark.parametrize("text", ["off", "'off'", '"off"', "OFF"])
def test_marks_are_kept_with_off_which_yaml_reads_as_false(write, text):
    path = write(f"preparation: {{remove_marks: {text}}}\n")
    assert Settings.build(file=path).preparation.remove_marks == "off"
    assert Settings.build(overrides=[f"preparation.remove_marks={text}"]).preparation.remove_marks == "off"
    with pytest.raises(SettingError, match=r"remove_marks: .*'auto' or 'off'; found True"):
        Settings.build(overrides=["preparation.remove_marks=on"])


@pytest.mark.parametrize(("text", "wanted"), [("true", "on"), ("false", "off"), ("on", "on"), ("off", "off"),
                                               ("'on'", "on"), ("'off'", "off"), ("auto", "auto")])  # fmt: skip
def test_compile_is_read_as_earlier_releases_saved_it_and_as_yaml_reads_on_and_off(write, tmp_path, text, wanted):
    path = write(f"training: {{compile: {text}}}\n")
    loaded = Settings.load(path)
    assert loaded.training.compile == Settings.build(file=path).training.compile == wanted
    assert Settings.build(overrides=[f"training.compile={text}"]).training.compile == wanted
    loaded.save(tmp_path / "again.yaml")
    assert Settings.load(tmp_path / "again.yaml").training.compile == wanted


@pytest.mark.parametrize("value", ["yes please", "1", "null"])
def test_compile_is_nothing_else(value):
    with pytest.raises(SettingError, match=r"^setting training\.compile: .*'auto', 'on' or 'off'; found "):
        Settings.build(overrides=[f"training.compile={value}"])


@pytest.mark.parametrize("part", [Settings, *(type(group) for _, group in Settings() if hasattr(group, "hash"))])
def test_every_old_behaviour_is_of_a_setting_that_is_there(part):
    assert set(part.OLD_BEHAVIOUR) <= set(part.model_fields)
    assert part.from_saved({}).model_dump() == part.model_validate(part.old_behaviour()).model_dump()


def test_settings_know_which_were_given(write):
    path = write("training: {epochs: 7}\nsplit.group_by: sample_id\n")
    names = Settings.build(file=path, overrides=["seed=3", "preparation.target_size=96"]).given
    assert names == {"training.epochs", "split.group_by", "seed", "preparation.target_size"}
    assert Settings.build().given == Settings.build(overrides={"training": {}}).given == set()
    assert Settings.build(overrides=["training.objective=triplet"]).given == {"training.objective"}
    assert Settings.build("cpu").given == set().union(*PRESETS.values())  # in all of which the presets differ
    assert Settings.build("cpu") == Settings.build()


def test_the_hash_is_of_the_values_however_they_were_given():
    assert PreparationSettings(target_size=96).hash() == PreparationSettings.validate_or_explain({}).hash()
    assert Settings.build("gpu", overrides=["preparation.target_size=128"]).preparation.hash() == (
        PreparationSettings(target_size=128, polarity="dark_on_light", scaling="fill").hash()
    )


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        Settings().seed = 3


@pytest.mark.parametrize(("color", "channels"), [("grey", 1), ("color", 3)])
def test_channels_follow_the_color(color, channels):
    assert PreparationSettings(color=color).n_channels == channels


@given(st.text(max_size=20))
def test_any_text_as_override_is_read_or_refused_with_a_reason(text):
    try:
        Settings.build(overrides=[text])
    except SettingError as error:
        assert str(error)


@settings(max_examples=40)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda s: st.dictionaries(st.text(max_size=8), s)))
def test_any_file_content_is_read_or_refused_with_a_reason(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump({"training": values}), encoding="utf-8")
    try:
        Settings.load(path)
    except (SettingError, InputError) as error:
        assert str(error)


def test_the_objective_at_a_share_of_the_training():
    training = Settings.build().training
    assert [training.objective_at(share) for share in (0, 0.79, 0.8, 1)] == ["normalized_softmax"] * 2 + ["triplet"] * 2
    assert Settings.build(overrides={"training.objective": "supcon"}).training.objective_at(0.9) == "supcon"


def test_a_preset_among_the_settings_and_settings_in_the_place_of_the_file_are_explained():
    with pytest.raises(SettingError, match=r"--preset quick, in Python Settings\.build\(\"quick\"\)$"):
        Settings.build(overrides={"preset": "quick", "training.epochs": 2})
    with pytest.raises(SettingError, match=r"found a dict: pass overrides=\{'training\.epochs': 2\}$"):
        Settings.build("quick", {"training.epochs": 2})
