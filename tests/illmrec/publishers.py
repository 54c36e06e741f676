"""Small files in the layouts of the publishers: what their real files look like, with made-up content."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from illmrec.data.registry import source_named
from illmrec.data.sources.pipeline import Build, BuildOptions
from illmrec.data.sources.places import built_folder
from illmrec.data.sources.writing import read_note

N_USERS, N_ITEMS = 12, 10


def picture(number: int = 0, *, kind: str = "JPEG", size: tuple[int, int] = (12, 9)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (20 * number % 255, 90, 160)).save(buffer, kind)
    return buffer.getvalue()


def pairs() -> Iterator[tuple[int, int, int]]:
    """Yield user, item and place: each of 12 users has 6 of 10 items, so that each item has 7 users or 8."""
    for user in range(N_USERS):
        for place in range(6):
            yield user, (user + place * (1 + user % 3)) % N_ITEMS, place


def json_lines(path: Path, rows: list[dict]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def amazon18_reviews() -> list[dict]:
    return [
        {
            "overall": 5.0,
            "verified": True,
            "reviewTime": "09 13, 2009",
            "reviewerID": f"A{user:013d}",
            "asin": f"B{item:09d}",
            "style": {"Format:": " Hardcover"},
            "reviewerName": "J. McDonald",
            "reviewText": 'Bought this for my husband.\nHe "likes" it.',
            "summary": "Fine",
            "unixReviewTime": 1252800000 + 86400 * place,
            **({"vote": "5"} if place == 2 else {}),
        }
        for user, item, place in pairs()
    ]


def amazon18_items(base: str = "https://images.example") -> list[dict]:
    return [
        {
            "category": ["Arts, Crafts & Sewing", f"Kind {item % 3}"],
            "tech1": "",
            "description": [f"A thing of kind {item % 3} &amp; more.", "<p>Good for many a use.</p>"],
            "fit": "",
            "title": f"Thing {item}",
            "also_buy": [],
            "tech2": "",
            "brand": f"Brand {item % 2}",
            "feature": ["Sturdy"],
            "rank": ["1,234 in Arts"],
            "main_cat": "Arts, Crafts & Sewing",
            "date": "June 1, 2010",
            "price": "$9.99",
            "asin": f"B{item:09d}",
            "imageURL": [f"{base}/{item}._US40_.jpg"],
            "imageURLHighRes": [f"{base}/{item}.jpg"],
        }
        for item in range(N_ITEMS)
    ]


def write_amazon18(folder: Path, **changes: Callable[[list[dict]], list[dict]]) -> None:
    reviews, items = amazon18_reviews(), amazon18_items()
    json_lines(folder / "Arts_Crafts_and_Sewing_5.json.gz", changes.get("reviews", list)(reviews))
    json_lines(folder / "meta_Arts_Crafts_and_Sewing.json.gz", changes.get("items", list)(items))


def write_amazon23(folder: Path) -> None:
    reviews = [
        {
            "rating": 3.0,
            "title": "Meh",
            "text": "Too small.",
            "images": [],
            "asin": f"B0VARIANT{item}",
            "parent_asin": f"B{item:09d}",
            "user_id": f"AE{user:026d}",
            "timestamp": 1634275259292 + 1000 * place,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for user, item, place in pairs()
    ]
    items = [
        {
            "main_category": "All Beauty",
            "title": f"Thing {item}",
            "average_rating": 3.7,
            "features": ["Sturdy"],
            "description": ["Description", f"A thing of kind {item % 3}."],
            "price": 6.99,
            "images": [
                {"hi_res": None if item == 1 else f"https://m.example/{item}_hi.jpg", "thumb": f"https://m.example/{item}_t.jpg",
                 "large": f"https://m.example/{item}.jpg", "variant": "MAIN"},
            ],
            "videos": [],
            "bought_together": None,
            "store": f"Store {item % 2}",
            "categories": ["Beauty", f"Kind {item % 3}"],
            "details": {"Color": "As Shown"},
            "parent_asin": f"B{item:09d}",
        }
        for item in range(N_ITEMS)
    ]  # fmt: skip
    json_lines(folder / "All_Beauty.jsonl.gz", reviews)
    json_lines(folder / "meta_All_Beauty.jsonl.gz", items)


ARTICLE_COLUMNS = (
    "article_id", "product_code", "prod_name", "product_type_no", "product_type_name", "product_group_name",
    "graphical_appearance_no", "graphical_appearance_name", "colour_group_code", "colour_group_name",
    "perceived_colour_value_id", "perceived_colour_value_name", "perceived_colour_master_id",
    "perceived_colour_master_name", "department_no", "department_name", "index_code", "index_name", "index_group_no",
    "index_group_name", "section_no", "section_name", "garment_group_no", "garment_group_name", "detail_desc",
)  # fmt: skip


def write_hm(folder: Path) -> None:
    """Write two colours of each product; the first three digits of an article name the folder of its picture."""
    with (folder / "articles.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(ARTICLE_COLUMNS)
        for item in range(N_ITEMS):
            for colour in (1, 2):
                values = dict.fromkeys(ARTICLE_COLUMNS, "x")
                code = f"01{item:05d}"
                values |= {
                    "article_id": f"{code}{colour:03d}",
                    "product_code": code,
                    "prod_name": f"Strap top {item}",
                    "product_type_name": "Vest top",
                    "product_group_name": "Garment Upper body",
                    "colour_group_name": ("Black", "White")[colour - 1],
                    "section_name": "Womens Everyday Basics",
                    "detail_desc": 'Jersey top with narrow shoulder straps, "soft".' if item else "",
                }
                writer.writerow(values.values())
                name = values["article_id"]
                if colour == 1:
                    place = folder / "images" / name[:3]
                    place.mkdir(parents=True, exist_ok=True)
                    (place / f"{name}.jpg").write_bytes(picture(item))
    with (folder / "transactions_train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("t_dat", "customer_id", "article_id", "price", "sales_channel_id"))
        for user, item, place in pairs():
            article = f"01{item:05d}{1 + place % 2:03d}"
            writer.writerow((f"2018-09-{20 + place}", f"{user:064x}", article, "0.0508", "2"))


def write_microlens(folder: Path) -> None:
    with (folder / "MicroLens-100k_pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user", "item", "timestamp"))
        writer.writerows(
            (user + 1, item + 1, 1583378629552 + 60_000 * place) for user, item, place in pairs()
        )
    with (folder / "MicroLens-100k_title_en.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows((item + 1, f'The "funny" cat, part {item}') for item in range(N_ITEMS))  # no header
    with zipfile.ZipFile(folder / "MicroLens-100k_covers.zip", "w") as archive:
        for item in range(N_ITEMS):
            archive.writestr(f"MicroLens-100k_covers/{item + 1}.jpg", picture(item))


BOOK_COLUMNS = (
    "book_id", "goodreads_book_id", "best_book_id", "work_id", "books_count", "isbn", "isbn13", "authors",
    "original_publication_year", "original_title", "title", "language_code", "average_rating", "ratings_count",
    "work_ratings_count", "work_text_reviews_count", "ratings_1", "ratings_2", "ratings_3", "ratings_4", "ratings_5",
    "image_url", "small_image_url",
)  # fmt: skip


def write_goodbooks(folder: Path) -> None:
    with (folder / "ratings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "book_id", "rating"))
        rows = sorted(pairs(), key=lambda row: row[2])  # by time, users mixed
        writer.writerows((user + 1, item + 1, 5) for user, item, _ in rows)
    with (folder / "books.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(BOOK_COLUMNS)
        for item in range(N_ITEMS):
            values = dict.fromkeys(BOOK_COLUMNS, "1")
            values |= {
                "book_id": str(item + 1),
                "authors": "J.K. Rowling, Mary GrandPré",
                "title": f"Harry Potter (Harry Potter, #{item})",
                "image_url": f"https://images.example/{item}m.jpg",
                "small_image_url": f"https://images.example/{item}s.jpg",
            }
            writer.writerow(values.values())


def write_movielens_1m(folder: Path) -> None:
    ratings = "".join(f"{user + 1}::{item + 1}::5::{978300760 + place}\n" for user, item, place in pairs())
    movies = "".join(
        f"{item + 1}::Misérables, Les ({1990 + item})::Drama|Musical\n" for item in range(N_ITEMS)
    )
    (folder / "ml-1m").mkdir()
    (folder / "ml-1m" / "ratings.dat").write_text(ratings, encoding="latin-1")
    (folder / "ml-1m" / "movies.dat").write_text(movies, encoding="latin-1")


def write_movielens_100k(folder: Path) -> None:
    ratings = "".join(f"{user + 1}\t{item + 1}\t3\t{881250949 + place}\n" for user, item, place in pairs())
    rest = "||http://us.imdb.com/x|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"
    movies = "".join(f"{item + 1}|Toy Story ({1990 + item})|01-Jan-1995{rest}\n" for item in range(N_ITEMS))
    (folder / "ml-100k").mkdir()
    (folder / "ml-100k" / "u.data").write_text(ratings, encoding="latin-1")
    (folder / "ml-100k" / "u.item").write_text(movies, encoding="latin-1")


def write_movielens_latest(folder: Path) -> None:
    """Write the zip file as it is fetched."""
    ratings = "userId,movieId,rating,timestamp\n" + "".join(
        f"{user + 1},{item + 1},4.0,{964982703 + place}\n" for user, item, place in pairs()
    )
    movies = "movieId,title,genres\n" + "".join(
        f'{item + 1},"American President, The ({1990 + item})",Comedy|Romance\n' for item in range(N_ITEMS)
    )
    with zipfile.ZipFile(folder / "ml-latest-small.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-latest-small/ratings.csv", ratings)
        archive.writestr("ml-latest-small/movies.csv", movies)


WRITERS = {
    "amazon18-art": write_amazon18,
    "amazon23-all-beauty": write_amazon23,
    "hm": write_hm,
    "hm-article": write_hm,
    "microlens": write_microlens,
    "goodbooks": write_goodbooks,
    "movielens-1m": write_movielens_1m,
    "movielens-100k": write_movielens_100k,
    "movielens-latest-small": write_movielens_latest,
}


def build(name: str, folder: Path, *, options: BuildOptions | None = None, **others) -> dict:
    """Build a data set from the files of a folder and return what is noted beside it."""
    if options is None:
        options = BuildOptions(images="none" if name.startswith(("amazon", "good", "movie")) else "download")
    built = Build(source=source_named(name), options=options, directory=folder, **others).run()
    assert built == built_folder(name)
    note = read_note(built)
    assert note is not None
    return note
