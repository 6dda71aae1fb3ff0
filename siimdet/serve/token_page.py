"""The page that asks a reader for the token. It has no style of its own: the policy allows none but the viewer's."""

_PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="dark light">
    <title>siimdet</title>
    <link rel="icon" href="icon.svg">
  </head>
  <body>
    <main>
      <h1>siimdet</h1>
      <p role="alert">{told}</p>
      <form>
        <label>Token <input type="password" name="token" autocomplete="current-password" required autofocus></label>
        <button>Open</button>
      </form>
    </main>
  </body>
</html>
"""


def token_page(*, wrong: bool) -> str:
    """HTML; `wrong`: a token was given, and it is another."""
    return _PAGE.format(told="This is not the server's token." if wrong else "This server asks for a token.")
