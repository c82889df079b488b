"""What a screen shows, as rows of text in roles: from a frame to lines, panels and charts, without a terminal."""
