"""Drawing the predicted class on a photo."""

from PIL import Image, ImageDraw, ImageFont, ImageOps

from sightline.runs.drawn_names import drawable, font_file

MIN_SIDE, MAX_SIDE = 240, 1024
"""Sides in pixels between which a picture is shown; smaller ones are enlarged, larger ones reduced."""
MIN_TEXT = 10
"""Pixels of the smallest title; a longer one is cut."""


def draw_titled(photo: Image.Image, name: str, share: str) -> Image.Image:
    """The photo below a white strip with a class's name and its share, the name cut where the strip is too short."""
    if max(photo.size) < MIN_SIDE:
        photo = ImageOps.contain(photo, (MIN_SIDE, MIN_SIDE), Image.Resampling.NEAREST)
    elif max(photo.size) > MAX_SIDE:
        photo = ImageOps.contain(photo, (MAX_SIDE, MAX_SIDE))
    size, most = max(14, photo.width // 24), len(name)
    title, font = _title(name, share, most, size)
    while font.getlength(title) > photo.width - 12 and (size > MIN_TEXT or most > 3):
        size, most = (size - 1, most) if size > MIN_TEXT else (size, most - 1)
        title, font = _title(name, share, most, size)
    strip = round(1.8 * size)
    picture = Image.new("RGB", (photo.width, photo.height + strip), "white")
    picture.paste(photo, (0, strip))
    ImageDraw.Draw(picture).text((photo.width / 2, strip / 2), title, fill="black", font=font, anchor="mm")
    return picture


def _title(name: str, share: str, most: int, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    title = f"{drawable(name, most)}  {share}"
    return title, ImageFont.truetype(font_file(title), size)
