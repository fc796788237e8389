"""Any bytes become a fitted RGB picture or a reason, and nothing else."""

import hashlib
import io
import random

import pytest
from drawn_images import file_bytes, opened, png_claiming, quadrants, sixteen_bit_ramp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageSequence

from caprl_core.data.images import prepare_image, reencoded
from caprl_core.data.reasons import Reason
from caprl_core.errors import SampleFailedError
from caprl_core.recipe.models import ImageRecipe

RECIPE = ImageRecipe()

RED, LIME, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def refused(data: bytes, recipe: ImageRecipe = RECIPE) -> str:
    with pytest.raises(SampleFailedError) as caught:
        prepare_image(data, recipe)
    assert "0x" not in caught.value.detail, "an address in the text would make ledgers differ between runs"
    return caught.value.reason


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours in the middle of the quadrants: upper left, upper right, lower left, lower right."""
    w, h = image.size
    return [image.getpixel((x, y)) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]


def near(colour: tuple[int, ...], wanted: tuple[int, ...], by: int = 8) -> bool:
    return all(abs(a - b) <= by for a, b in zip(colour, wanted, strict=True))


@pytest.mark.parametrize(
    ("image_format", "extension"),
    [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tif")],
)
def test_each_allowed_format_is_seen_as_rgb_png_beside_its_untouched_bytes(image_format, extension):
    data = file_bytes(quadrants(200, 100), image_format)
    image = prepare_image(data, RECIPE)
    assert (image.format, image.extension, image.frames) == (image_format, extension, 1)
    assert (image.source_width, image.source_height) == (200, 100)
    assert (image.width, image.height) == (196, 112)
    assert image.original == data
    assert (image.size, image.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    seen = opened(image.encoded)
    assert (seen.format, seen.mode, seen.size) == ("PNG", "RGB", (196, 112))
    tolerance = 60 if image_format in ("JPEG", "WEBP") else 8  # saturated colours at half chroma resolution
    assert all(near(a, b, tolerance) for a, b in zip(corners(seen), (RED, LIME, BLUE, WHITE), strict=True)), corners(
        seen
    )


def test_the_same_bytes_give_the_same_picture():
    data = file_bytes(quadrants(300, 201), "JPEG")
    assert prepare_image(data, RECIPE) == prepare_image(data, RECIPE)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [RED, LIME, BLUE, WHITE]),
        (2, [LIME, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, LIME, RED]),
        (4, [BLUE, WHITE, RED, LIME]),
        (5, [RED, BLUE, LIME, WHITE]),
        (6, [BLUE, RED, WHITE, LIME]),
        (7, [WHITE, LIME, BLUE, RED]),
        (8, [LIME, WHITE, RED, BLUE]),
    ],
)
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_once(image_format, orientation, expected):
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if image_format == "WEBP" else {}
    image = prepare_image(file_bytes(quadrants(168, 112), image_format, exif=exif, **options), RECIPE)
    sideways = orientation >= 5
    assert (image.width, image.height) == ((112, 168) if sideways else (168, 112))
    assert all(near(a, b) for a, b in zip(corners(opened(image.encoded)), expected, strict=True))
    if image_format != "TIFF":  # Pillow turns a TIFF itself while loading
        assert image.notes == (("exif_rotated",) if orientation > 1 else ())


@pytest.mark.parametrize("exif", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", b"Exif\x00\x00"])
def test_broken_exif_never_costs_a_picture(exif):
    image = prepare_image(file_bytes(quadrants(), "JPEG", exif=exif), RECIPE)
    assert (image.width, image.height) == (112, 112)
    assert set(image.notes) <= {"exif_broken"}


def test_an_impossible_orientation_is_noted_and_ignored():
    exif = Image.Exif()
    exif[274] = 77
    image = prepare_image(file_bytes(quadrants(), "PNG", exif=exif), RECIPE)
    assert image.notes == ("exif_broken",)
    assert corners(opened(image.encoded)) == [RED, LIME, BLUE, WHITE]


def test_cmyk_is_converted():
    image = prepare_image(file_bytes(quadrants().convert("CMYK"), "JPEG", quality=95, subsampling=0), RECIPE)
    assert image.notes == ("cmyk_converted",)
    assert near(corners(opened(image.encoded))[0], RED, 16)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(image_format):
    image = prepare_image(file_bytes(sixteen_bit_ramp(), image_format), RECIPE)
    assert image.notes == ("sixteen_bit_scaled",)
    seen = opened(image.encoded)
    assert [seen.getpixel((x, 30))[0] for x in (0, 11, 22, 33, 44, 55)] == [0, 51, 102, 153, 204, 255]


@pytest.mark.parametrize(("mode", "low", "high"), [("I", -70_000, 2**31 - 1), ("F", -0.5, 3.5)])
def test_samples_without_a_fixed_white_are_stretched(mode, low, high):
    picture = Image.new(mode, (56, 56), low)
    picture.paste(high, (28, 0, 56, 56))
    image = prepare_image(file_bytes(picture, "TIFF"), RECIPE)
    assert image.notes == ("range_stretched",)
    assert [opened(image.encoded).getpixel((x, 30)) for x in (5, 50)] == [(0, 0, 0), WHITE]


def test_floats_that_are_no_numbers_are_corrupt():
    assert refused(file_bytes(Image.new("F", (56, 56), float("nan")), "TIFF")) == Reason.IMAGE_CORRUPT


@pytest.mark.parametrize(("mode", "image_format"), [("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF")])
def test_transparency_is_laid_on_the_stated_background(mode, image_format):
    if mode == "P":
        picture, options = quadrants().quantize(4), {}
        options["transparency"] = picture.getpixel((100, 100))
    else:
        picture, options = quadrants().convert("RGBA"), {}
        picture.paste((255, 0, 0, 0), (56, 56, 112, 112))
        picture = picture.convert(mode)
    image = prepare_image(file_bytes(picture, image_format, **options), ImageRecipe(background="#102030"))
    assert image.notes == ("alpha_flattened",)
    seen = opened(image.encoded)
    assert seen.getpixel((100, 100)) == (0x10, 0x20, 0x30)
    assert seen.getpixel((10, 10)) == (RED if mode != "LA" else (76, 76, 76))


def test_half_transparent_pixels_mix_with_the_background():
    data = file_bytes(Image.new("RGBA", (56, 56), (0, 0, 0, 128)), "PNG")
    assert near(opened(prepare_image(data, RECIPE).encoded).getpixel((30, 30)), (127, 127, 127), 1)


def test_an_opaque_alpha_channel_is_dropped_without_a_note():
    image = prepare_image(file_bytes(quadrants().convert("RGBA"), "PNG"), RECIPE)
    assert image.notes == ()
    assert corners(opened(image.encoded)) == [RED, LIME, BLUE, WHITE]


def test_a_colour_declared_transparent_is_flattened_also_at_sixteen_bits():
    rgb = prepare_image(file_bytes(quadrants(), "PNG", transparency=RED), ImageRecipe(background="#000000"))
    assert rgb.notes == ("alpha_flattened",)
    assert corners(opened(rgb.encoded)) == [(0, 0, 0), LIME, BLUE, WHITE]
    deep = prepare_image(file_bytes(sixteen_bit_ramp(), "PNG", transparency=65535), ImageRecipe(background="#0000ff"))
    assert deep.notes == ("alpha_flattened", "sixteen_bit_scaled")
    assert opened(deep.encoded).getpixel((55, 30)) == BLUE


@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_palette_grey_and_black_and_white_become_rgb(mode):
    image = prepare_image(file_bytes(quadrants().convert(mode), "PNG"), RECIPE)
    assert image.notes == ()
    seen = opened(image.encoded)
    assert seen.mode == "RGB"
    assert seen.getpixel((100, 100)) == WHITE


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_used_and_recorded(image_format):
    first, second, third = (Image.new("RGB", (112, 112), colour) for colour in ("red", "lime", "blue"))
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = file_bytes(first, image_format, save_all=True, append_images=[second, third], **options)
    assert len(list(ImageSequence.Iterator(opened(data)))) == 3
    image = prepare_image(data, RECIPE)
    assert (image.frames, image.notes) == (3, ("first_frame",))
    assert opened(image.encoded).getpixel((60, 60)) == RED


def test_an_mpo_is_a_jpeg_with_more_pictures():
    data = file_bytes(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (112, 112))])
    image = prepare_image(data, RECIPE)
    assert (image.format, image.extension, image.frames, image.notes) == ("MPO", "jpg", 2, ("first_frame",))


def test_an_animation_damaged_after_its_first_frame_is_kept():
    frames = [Image.effect_noise((112, 112), 90).convert("P") for _ in range(3)]
    data = file_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    image = prepare_image(data[: len(data) * 3 // 5], RECIPE)
    assert opened(image.encoded).size == (112, 112)


def test_format_is_told_by_the_bytes():
    assert prepare_image(file_bytes(quadrants(), "WEBP"), RECIPE).extension == "webp"


@pytest.mark.parametrize(
    "data",
    [
        b"8BPS\x00\x01" + bytes(60),
        b"\x00\x00\x01\x00" + bytes(60),
        b"%PDF-1.7",
        b"<svg xmlns=''/>",
        b"\xff\x0a" + bytes(9),
    ],
)
def test_other_picture_formats_are_unsupported(data):
    assert refused(data) == Reason.IMAGE_UNSUPPORTED


def test_avif_is_unsupported():
    assert refused(b"\x00\x00\x00\x20ftypavif" + bytes(64)) == Reason.IMAGE_UNSUPPORTED


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"hello", b"<!DOCTYPE html><html>", b'{"error": "not found"}', bytes(5000)]
)
def test_what_is_no_picture_is_corrupt(data):
    assert refused(data) == Reason.IMAGE_CORRUPT


def test_limits_on_bytes_pixels_sides_and_aspect():
    assert refused(file_bytes(quadrants(), "PNG"), ImageRecipe(max_bytes=100)) == Reason.IMAGE_TOO_LARGE
    assert refused(png_claiming(15_000, 15_000)) == Reason.IMAGE_TOO_LARGE
    assert refused(png_claiming(60_000, 60_000)) == Reason.IMAGE_TOO_LARGE
    assert refused(png_claiming(200, 200), ImageRecipe(max_source_pixels=39_999)) == Reason.IMAGE_TOO_LARGE
    assert refused(file_bytes(quadrants(112, 7), "PNG")) == Reason.IMAGE_TOO_SMALL
    assert refused(file_bytes(quadrants(1616, 8), "PNG")) == Reason.IMAGE_EXTREME_ASPECT
    assert prepare_image(file_bytes(quadrants(1600, 8), "PNG"), RECIPE).width == 812


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_file_cut_short_is_truncated_and_kept_only_on_request(image_format):
    noise = Image.effect_noise((160, 160), 80).convert("RGB")
    data = file_bytes(noise, image_format)[:-4000]
    assert refused(data) == Reason.IMAGE_TRUNCATED
    if image_format == "WEBP":  # libwebp gives nothing for an incomplete file
        assert refused(data, ImageRecipe(truncated="keep")) == Reason.IMAGE_TRUNCATED
    else:
        kept = prepare_image(data, ImageRecipe(truncated="keep"))
        assert "truncated_kept" in kept.notes
        assert opened(kept.encoded).getpixel((10, 10)) != opened(kept.encoded).getpixel((11, 11))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False, "Pillow's process-wide switch must be put back"


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    image_format=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]),
    policy=st.sampled_from(["reject", "keep"]),
)
def test_any_prefix_of_a_picture_is_a_picture_truncated_or_corrupt(data, image_format, policy):
    whole = file_bytes(quadrants(96, 64), image_format)
    prefix = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        prepare_image(prefix, ImageRecipe(truncated=policy))
    except SampleFailedError as error:
        assert error.reason in (Reason.IMAGE_TRUNCATED, Reason.IMAGE_CORRUPT)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    damage=st.integers(1, 30),
    image_format=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]),
)
def test_a_picture_with_damaged_bytes_ends_as_a_picture_or_a_reason(seed, damage, image_format):
    dice = random.Random(seed)
    broken = bytearray(file_bytes(quadrants(96, 64), image_format))
    for _ in range(damage):
        broken[dice.randrange(len(broken))] = dice.randrange(256)
    try:
        image = prepare_image(bytes(broken), ImageRecipe(max_source_pixels=10_000_000))
    except SampleFailedError as error:
        assert error.reason in set(Reason)
    else:
        assert opened(image.encoded).size == (image.width, image.height)


def test_draft_decoding_is_used_only_where_it_stays_above_the_target():
    data = file_bytes(quadrants(2400, 1800), "JPEG", quality=90, subsampling=0)
    budget = {"max_pixels": 1_000_000}
    drafted, full = (prepare_image(data, ImageRecipe(draft=draft, **budget)) for draft in (True, False))
    assert (drafted.notes, full.notes) == (("jpeg_drafted",), ())
    assert (drafted.width, drafted.height) == (full.width, full.height) == (1148, 840)
    assert (drafted.source_width, drafted.source_height) == (2400, 1800)
    assert all(near(a, b) for a, b in zip(corners(opened(drafted.encoded)), corners(opened(full.encoded)), strict=True))
    # 1800 px to 1008 px is less than half: there is nothing to save without losing pixels.
    assert prepare_image(data, ImageRecipe(max_pixels=1_500_000)).notes == ()


def test_a_drafted_picture_is_still_turned_upright():
    exif = Image.Exif()
    exif[274] = 6
    image = prepare_image(file_bytes(quadrants(1680, 1120), "JPEG", exif=exif), ImageRecipe(max_pixels=200_000))
    assert image.notes == ("exif_rotated", "jpeg_drafted")
    assert image.width < image.height
    assert all(near(a, b) for a, b in zip(corners(opened(image.encoded)), (BLUE, RED, WHITE, LIME), strict=True))


def test_nothing_but_pixels_reaches_the_engine():
    exif = Image.Exif()
    exif[271] = "a camera"
    data = file_bytes(quadrants(), "JPEG", exif=exif, comment=b"hello", dpi=(300, 300), icc_profile=b"profile")
    assert opened(prepare_image(data, RECIPE).encoded).info == {}


def test_the_tar_carries_the_original_or_what_the_engine_saw():
    image = prepare_image(file_bytes(quadrants(301, 200), "GIF"), RECIPE)
    assert reencoded(image, ImageRecipe(reencode="none")) == (image.original, "gif")
    assert reencoded(image, ImageRecipe(reencode="png")) == (image.encoded, "png")
    jpeg, extension = reencoded(image, ImageRecipe(reencode="jpeg95"))
    assert (extension, opened(jpeg).format, opened(jpeg).size) == ("jpg", "JPEG", (image.width, image.height))
    assert reencoded(image, ImageRecipe(reencode="jpeg95"))[0] == jpeg
    assert near(corners(opened(jpeg))[0], RED)


def test_every_good_picture_of_the_corpus_is_seen_within_the_budget(corpus):
    files = sorted((corpus / "images").iterdir())
    assert len(files) == 47
    for path in files:
        image = prepare_image(path.read_bytes(), RECIPE)
        assert opened(image.encoded).size == (image.width, image.height)
        assert image.width % 28 == image.height % 28 == 0
        assert RECIPE.min_pixels <= image.width * image.height <= RECIPE.max_pixels
        # The sides' ratio stays within one visual token of the original's.
        lowest, highest = (image.width - 28) / (image.height + 28), (image.width + 28) / (image.height - 28)
        assert lowest < image.source_width / image.source_height < highest


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("pillow_broken.png", Reason.IMAGE_CORRUPT),
        ("pillow_broken_data_stream.png", Reason.IMAGE_CORRUPT),
        ("pillow_crash-338516dbd2f0e83caddb8ce256c22db3bd6dc40f.tif", Reason.IMAGE_CORRUPT),
        ("pillow_decompression_bomb.gif", Reason.IMAGE_TOO_LARGE),
        ("pillow_decompression_bomb.ico", Reason.IMAGE_UNSUPPORTED),
        ("pillow_oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif", Reason.IMAGE_CORRUPT),
        ("pillow_timeout-c8efc3fded6426986ba867a399791bae544f59bc.psd", Reason.IMAGE_UNSUPPORTED),
        ("pillow_exif_imagemagick_orientation.png", ("exif_rotated",)),
        ("pillow_exif_typeerror.jpg", ()),
        ("pillow_hopper_bad_exif.jpg", ("exif_broken",)),
        ("pillow_invalid-exif.jpg", ()),
        ("pillow_photoshop-200dpi-broken.jpg", ()),
        ("pillow_sugarshack_no_data.mpo", ("first_frame",)),
    ],
)
def test_every_hostile_file_of_the_corpus_ends_as_a_picture_or_its_reason(corpus, name, outcome):
    data = (corpus / "bad_images" / name).read_bytes()
    if isinstance(outcome, Reason):
        assert refused(data) == outcome
    else:
        assert prepare_image(data, RECIPE).notes == outcome


def test_the_encoding_never_changes_what_the_engine_sees_or_what_the_tar_carries() -> None:
    data = file_bytes(quadrants(300, 200), "JPEG")
    as_png, as_bmp = (prepare_image(data, RECIPE, encoding) for encoding in ("png", "bmp"))
    assert (as_png.encoded[:4], as_bmp.encoded[:2]) == (b"\x89PNG", b"BM")
    with Image.open(io.BytesIO(as_png.encoded)) as one, Image.open(io.BytesIO(as_bmp.encoded)) as two:
        assert (one.mode, one.size, one.tobytes()) == (two.mode, two.size, two.tobytes())
    for form in ("png", "jpeg95"):
        recipe = RECIPE.model_copy(update={"reencode": form})
        assert reencoded(as_png, recipe) == reencoded(as_bmp, recipe)
