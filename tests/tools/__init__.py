"""Do the tools that people have work with a Scorpio server, and do they count as we do?"""
