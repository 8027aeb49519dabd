"""From a kept prefix and a question to an answer.

`generation` goes token by token, `beam_search` along several answers at once; `drafts` checks a guessed answer in one
pass, `choosing` scores options. `streaming` hands out pieces, `turns` orders who runs, `answers` is what comes back.
"""
