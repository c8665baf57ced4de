"""Drawing the predicted class on a photo."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from sightline.data.transforms import load_rgb

MIN_SIDE, MAX_SIDE = 240, 1024
"""Sides in pixels between which a picture is shown; smaller ones are enlarged, larger ones reduced."""


def draw_titled(file: Path, title: str) -> Image.Image:
    """The photo below a white strip with the title."""
    photo = load_rgb(file)
    if max(photo.size) < MIN_SIDE:
        photo = ImageOps.contain(photo, (MIN_SIDE, MIN_SIDE), Image.Resampling.NEAREST)
    elif max(photo.size) > MAX_SIDE:
        photo = ImageOps.contain(photo, (MAX_SIDE, MAX_SIDE))
    size = max(14, photo.width // 24)
    font = ImageFont.load_default(size)
    while size > 8 and font.getlength(title) > photo.width - 12:
        size -= 1
        font = ImageFont.load_default(size)
    strip = round(1.8 * size)
    picture = Image.new("RGB", (photo.width, photo.height + strip), "white")
    picture.paste(photo, (0, strip))
    ImageDraw.Draw(picture).text((photo.width / 2, strip / 2), title, fill="black", font=font, anchor="mm")
    return picture
