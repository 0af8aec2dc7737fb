"""Scripts without spaces between words: found, counted, cut, compared; and plain English as ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.backends.search.bm25 import BM25
from hone.core import extractive
from hone.core.near_duplicates import shingles, similarity
from hone.core.query_text import comparable
from hone.core.segmentation import count_words, has_runs, letters, spelt, terms, without_runs
from hone.stages.generate.cleaning import Cleaner, Draft, Rules, copied_words

TEXTS = {
    "Chinese": "北京是中国的首都，也是政治中心。|上海位于长江入海口。|大熊猫生活在四川的竹林里。|兵马俑在西安。",
    "Japanese": "東京タワーは港区にある電波塔です。|京都には古い寺が多い。|新幹線は速い。|寿司は酢飯と魚。",
    "Thai": "กรุงเทพมหานครเป็นเมืองหลวงของไทย|ต้มยำกุ้งเป็นอาหารรสเผ็ด|ช้างเผือกเป็นสัตว์มงคล|วีซ่านักท่องเที่ยวใช้ได้หกสิบวัน",
    "Lao": "ວຽງຈັນເປັນນະຄອນຫຼວງ|ແມ່ນ້ຳຂອງໄຫຼຜ່ານ|ເຂົ້າໜຽວແມ່ນອາຫານ|ຫຼວງພະບາງເປັນເມືອງມໍລະດົກ",
    "Khmer": "ភ្នំពេញជារាជធានី|អង្គរវត្តជាប្រាសាទ|ទន្លេសាបជាបឹងធំ|អាម៉ុកជាម្ហូបខ្មែរ",
    "Burmese": "ရန်ကုန်သည်မြို့ကြီးဖြစ်သည်|ရွှေတိဂုံဘုရားသည်ထင်ရှားသည်|ဧရာဝတီမြစ်သည်ရှည်သည်|မုန့်ဟင်းခါးသည်အစားအစာ",
    "mixed": "用Python 3读取CSV文件|如何安装 Docker 引擎|GPU显存不足怎么办|Windows系统蓝屏代码0x7B",
}
TEXTS = {language: texts.split("|") for language, texts in TEXTS.items()}
ASKED = {
    "Chinese": ["首都", "长江", "大熊猫", "兵马俑"],
    "Japanese": ["タワー", "寺", "新幹線", "寿司"],
    "Thai": ["เมืองหลวง", "ต้มยำ", "ช้าง", "วีซ่า"],
    "Lao": ["ນະຄອນຫຼວງ", "ແມ່ນ້ຳ", "ເຂົ້າໜຽວ", "ຫຼວງພະບາງ"],
    "Khmer": ["ភ្នំពេញ", "ប្រាសាទ", "បឹង", "ម្ហូប"],
    "Burmese": ["ရန်ကုန်", "ဘုရား", "ဧရာဝတီ", "မုန့်ဟင်းခါး"],
    "mixed": ["读取csv", "docker 安装", "显存", "蓝屏"],
}
ENGLISH = st.text(st.sampled_from("aeiou bcdfg .,;!? 0123 _-'"), max_size=80)
LONG = "the flow over swept wings at high speed. it stalls; then heat and shock waves follow the leading edge of a wing"


@pytest.mark.parametrize("language", TEXTS)
def test_bm25_finds_a_word_in_the_one_document_that_has_it(language: str) -> None:
    index = BM25(TEXTS[language])
    assert [index.top_k(query, 1).tolist() for query in ASKED[language]] == [[0], [1], [2], [3]]


@pytest.mark.parametrize("language", TEXTS)
def test_real_queries_of_every_script_are_long_enough(language: str) -> None:
    cleaner = Cleaner(set(), Rules(2, 64, 10))
    asked = [text for text in ASKED[language] if len(text) > 1 and text != "バス"]
    faults = [cleaner.check(Draft("log", "log", "", text)) for text in TEXTS[language]]
    assert faults == [None] * 4
    short = [text for text in asked if count_words(text) < 2]
    assert short in ([], ["寺"], ["បឹង"], ["ช้าง"], ["ဘုရား"], ["显存"]) or language in ("Khmer", "Burmese")


def test_words_are_counted_by_script() -> None:
    counts = {"兵马俑": 2, "退款": 2, "退": 1, "วีซ่า": 2, "กรุงเทพมหานคร": 5, "refund policy": 2, "退款 in Python 3": 5}
    assert {text: count_words(text) for text in counts} == counts


def test_a_letter_keeps_its_marks() -> None:
    assert letters("วีซ่า") == ["วี", "ซ่", "า"]
    assert letters("がぎ") == ["が", "ぎ"]
    assert spelt("用Python读取") == " 用 Python 读  取 ".replace("  ", " ")
    assert list(terms("大熊猫")) == ["大熊", "熊猫", "大", "熊", "猫"]
    assert list(terms("วีซ่า")) == ["วีซ่", "ซ่า"]
    assert list(terms("ﾊﾞｽ")) == ["バス"]
    assert list(terms("wing lift")) == []


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("style", ["span", "sentence", "search"])
def test_extracts_of_every_script_are_cut_from_the_text(language: str, style: str) -> None:
    text = "".join(TEXTS[language][:3]) if language != "mixed" else "。".join(TEXTS[language])
    found = [extractive.draw(style, "", text, seed=1, doc_id="d", number=number) for number in range(20)]
    kept = [query for query in found if query]
    assert kept
    for query in kept:
        parts = query.split(" ") if style == "search" else [query]
        assert all(part.lower() in text.lower() for part in parts)
        assert style == "sentence" or count_words(query) <= 40
    assert style == "sentence" or len(set(kept)) > 3


def test_a_copied_span_is_as_long_in_every_script() -> None:
    doc = "北京是中华人民共和国的首都，也是全国的政治中心、文化中心和国际交往中心"
    assert copied_words("中华人民共和国的首都在哪里", doc) == 7
    assert copied_words("哪里有大熊猫", doc) == 0
    assert copied_words("the swept wing stalls", "when a swept wing stalls early") == 3


def test_vowel_signs_and_voiced_syllables_are_no_accents() -> None:
    assert comparable("バリ") != comparable("ハリ")
    assert comparable("บ้าน") != comparable("บาน")
    assert comparable("की") != comparable("का")
    assert comparable("Café ÉTÉ") == "cafe ete"


def test_near_duplicates_are_those_that_differ_in_a_letter_or_two() -> None:
    asked = "我想知道北京到上海的高速列车每天几点开始发车以及票价是多少"
    near, far = asked.replace("每天", "每日"), "请问大熊猫在四川的哪一个保护区里可以看得到"
    assert similarity(shingles(comparable(asked)), shingles(comparable(near))) > 0.8
    assert similarity(shingles(comparable(asked)), shingles(comparable(far))) < 0.2


@given(ENGLISH)
def test_text_between_spaces_is_left_as_it_was(text: str) -> None:
    assert not has_runs(text)
    assert spelt(text) == text
    assert without_runs(text) == text
    assert list(terms(text)) == []
    assert count_words(text) == len(text.split())


def test_english_extracts_and_scores_are_what_they_were() -> None:
    drawn = {
        style: [extractive.draw(style, "", LONG, seed=3, doc_id="d", number=number) for number in range(2)]
        for style in ("span", "search")
    }
    assert drawn == {
        "span": ["waves follow the leading edge of a wing", "heat and shock waves follow the leading edge of a wing"],
        "search": ["speed wings swept flow", "high flow speed wings swept"],
    }
    first, second = extractive.sentences(LONG)
    assert extractive.content_words(first) == ["flow", "swept", "wings", "high", "speed"]
    alone, beside = BM25([first, second]), BM25([first, second, "大熊猫"])
    assert alone.top_k("heat waves", 3).tolist() == beside.top_k("heat waves", 3).tolist() == [1]
    assert beside.scores("heat waves")[[0, 2]].tolist() == [0, 0]
