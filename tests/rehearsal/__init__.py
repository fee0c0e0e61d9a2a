"""Does each act of docs/operate.md, and each alert, do on a real server what the page says?"""
